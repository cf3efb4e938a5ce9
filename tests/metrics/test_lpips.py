"""LPIPS: against torchmetrics' class and by hand, with random backbone weights; and where weights are looked for."""

import os

import pytest
import torch
from safetensors.torch import save_file

from partrm.metrics.lpips import FILES, LpipsError, cached_weights, features_of, find_lpips, load_lpips

NETS = ("alex", "vgg")


def backbone(net, path):
    """Random weights of a backbone in torchvision's layout, with a classifier that LPIPS does not need."""
    torch.manual_seed(NETS.index(net))
    features = features_of(net)
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(2, 2)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return features


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 2, 3, 9, 9, generator=generator)
    return torch.nn.functional.interpolate(coarse.flatten(0, 1), (80, 72), mode="bilinear").unflatten(0, (2, 2))


@pytest.mark.parametrize("net", NETS)
def test_torchmetrics_says_the_same(net, images, tmp_path, monkeypatch):
    theirs = pytest.importorskip("torchmetrics.functional.image.lpips")
    features = backbone(net, tmp_path / "weights.pth")
    # Without torchvision its class finds no backbone: it gets ours.
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda name, pretrained=False: features)
    wanted = theirs._NoTrainLpips(net=net, pnet_rand=True)
    ours = load_lpips(tmp_path / "weights.pth", net)
    a, b = images
    (found,) = ours.distances([a], b)
    torch.testing.assert_close(found, wanted(a, b, normalize=True).flatten(), rtol=1e-5, atol=1e-7)
    (raw,) = ours.distances([a], b, centred=False)
    torch.testing.assert_close(raw, wanted(a, b, normalize=False).flatten(), rtol=1e-5, atol=1e-7)
    assert float((raw - found).abs().min()) > 1e-4, "the published script's slip shows"
    assert float(found.min()) > 1e-3
    assert ours.distances([b, a], b)[0].tolist() == [0, 0]


def test_by_hand(images, tmp_path):
    """The sum over stages of the mean over pixels of the weighted squared difference of unit features."""
    backbone("alex", tmp_path / "w.safetensors")
    ours = load_lpips(tmp_path / "w.safetensors", "alex")
    a, b = images[:, :1]
    total, features = 0.0, [2 * x - 1 for x in (a, b)]
    features = [(x - torch.tensor([-0.03, -0.088, -0.188])[:, None, None]) for x in features]
    features = [x / torch.tensor([0.458, 0.448, 0.45])[:, None, None] for x in features]
    for stage, weight in zip(ours.stages, ours.linear, strict=True):
        features = [stage(x) for x in features]
        _, _, height, width = features[0].shape
        for y in range(height):
            for x in range(width):
                one, other = (f[0, :, y, x] / f[0, :, y, x].norm() for f in features)
                total += float((weight * (one - other) ** 2).sum()) / (height * width)
    assert float(ours.distances([a], b)[0]) == pytest.approx(total, rel=1e-3)


def test_weights_are_found_in_the_cache_or_given(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert cached_weights() is None
    assert find_lpips("auto") is None
    (tmp_path / "checkpoints").mkdir()
    backbone("vgg", tmp_path / "checkpoints" / FILES["vgg"])
    found = find_lpips("auto")
    assert found is not None
    assert (found.net, len(found.hash), len(found.stages)) == ("vgg", 16, 5)
    assert find_lpips("none") is None
    assert find_lpips(tmp_path / "checkpoints" / FILES["vgg"]).hash == found.hash


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"no weights", "cannot be read"),
        ({"features.0.weight": torch.zeros(1)}, "not the weights"),
    ],
)
def test_wrong_weights_are_refused_with_their_file(content, words, tmp_path):
    path = tmp_path / "mine.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(LpipsError, match=rf"mine\.pth: {words}"):
        find_lpips(path)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "mine.pth")
    with pytest.raises(LpipsError, match=r"mine\.pth: cannot be read as weights \(not a regular file\)"):
        find_lpips(tmp_path / "mine.pth")


def test_missing_package_is_named(tmp_path, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torchmetrics" else real(name, *a)
    )
    backbone("alex", tmp_path / "w.pth")
    with pytest.raises(LpipsError, match=r"pip install 'partrm\[eval\]'"):
        load_lpips(tmp_path / "w.pth", "alex")
