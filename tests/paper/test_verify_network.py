"""Network golden files: those of the plain rendition pass in every size, changed ones fail, broken ones say why."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.plain_reference import PlainReference

from partrm.model.reference import ReferenceConfig
from partrm.paper.verify import GoldenFileError, load_network_golden, verify_file, verify_network

MINI = ReferenceConfig("mini", 32, (32, 32, 64), (False, False, True), (64, 32), (True, False))
DEEP = ReferenceConfig(
    "deep", 32, (32, 64, 64, 96), (False, True, False, True), (96, 64, 32), (True, False, True), 1, 8
)


def write_golden(path, config: ReferenceConfig, b=1, v=4, n=3) -> dict:
    """A golden file as the reference implementation's are, from the plain rendition."""
    torch.manual_seed(0)
    plain, side = PlainReference(config, v).eval(), config.image_size_px
    channels = torch.randn(b, v, 9, side, side)
    start, end = (512 * torch.rand(b, v, n, 2) for _ in range(2))
    levels = range(len(config.down_channels))
    tensors = {"input": channels, "drags_start_px512": start, "drags_end_px512": end}
    with torch.inference_mode():
        tensors["gaussians"] = plain(channels, start, end)
        for which, points in (("start", start), ("end", end)):
            tensors |= {f"drag_map_{which}.{m.shape[-1]}": m for m in plain.maps(points, side)}
    content = {
        "input_size": side,
        "splat_size": math.isqrt(tensors["gaussians"].shape[1] // v),
        "down_channels": config.down_channels,
        "down_attention": config.down_attention,
        "up_channels": config.up_channels,
        "up_attention": config.up_attention,
        "drag_scales": [side >> level for level in levels],
        "num_heads": config.heads,
        "norm_groups": 32,
        "skip_scale": 0.5**0.5,
        "layers_per_block": config.down_layers,
    }
    tensors |= {f"weights.{name}": value for name, value in plain.state_dict().items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, {"config": json.dumps(content)})
    return content


@pytest.mark.parametrize(("config", "b", "v", "n"), [(MINI, 1, 4, 10), (MINI, 3, 2, 1), (DEEP, 2, 4, 4)])
def test_goldens_of_all_sizes_pass(tmp_path, config, b, v, n) -> None:
    write_golden(tmp_path / "network.safetensors", config, b, v, n)
    checks = verify_file(tmp_path / "network.safetensors")
    assert all(check.ok for check in checks), checks
    levels = len(config.down_channels)
    cpu = [check.quantity for check in checks if check.backend == "cpu"]
    assert cpu[2 * levels :] == ["means", "opacities", "scales", "quats", "colors"]
    assert len({q for q in cpu if q.startswith("drag map")}) == 2 * levels


@pytest.mark.gpu
@pytest.mark.parametrize(("config", "b", "v", "n"), [(MINI, 2, 4, 10), (DEEP, 1, 4, 4)])
def test_goldens_pass_on_cuda(tmp_path, config, b, v, n) -> None:
    write_golden(tmp_path / "network.safetensors", config, b, v, n)
    checks = verify_file(tmp_path / "network.safetensors", "cuda")
    assert {check.backend for check in checks} == {"cuda"}
    assert all(check.ok for check in checks), checks


def test_a_changed_golden_fails_where_it_was_changed(tmp_path) -> None:
    write_golden(tmp_path / "network.safetensors", MINI)
    golden = load_network_golden(tmp_path / "network.safetensors")
    golden.maps[1][0, 0, 0, 0, 0] += 3e-5 * float(golden.maps[1][0].max() - golden.maps[1][0].min())
    golden.gaussians[0, 7, 4] += 2e-4 * float(golden.gaussians[..., 4:7].max())
    assert [check.quantity for check in verify_network(golden, "cpu") if not check.ok] == [
        "drag map start 16",
        "scales",
    ]


def test_another_network_fails(tmp_path) -> None:
    path = tmp_path / "network.safetensors"
    content, tensors = write_golden(path, MINI), load_file(path)
    tensors["weights.unet.mid_block.attns.0.attn.qkv.weight"] *= 1.2
    save_file(tensors, path, {"config": json.dumps(content)})
    failed = [check.quantity for check in verify_file(path) if not check.ok]
    assert set(failed) == {"means", "opacities", "scales", "quats", "colors"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm_groups": 16}, "norm groups"),
        ({"splat_size": 8}, "splat size"),
        ({"up_channels": [64, 64]}, "of another shape"),
        ({"down_channels": "wide"}, "not a sound"),
        ({"num_heads": 0}, "not a sound"),
        ({"down_attention": []}, "not a sound"),
        ({"layers_per_block": 1}, "unexpected"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, changed, message) -> None:
    path = tmp_path / "network.safetensors"
    content, tensors = write_golden(path, MINI), load_file(path)
    save_file(tensors, path, {"config": json.dumps(content | changed)})
    with pytest.raises(GoldenFileError, match=message) as caught:
        verify_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["input", "drag_map_end.8", "gaussians", "weights.conv.bias"])
def test_lacking_tensors_are_named(tmp_path, name) -> None:
    path = tmp_path / "network.safetensors"
    content, tensors = write_golden(path, MINI), load_file(path)
    del tensors[name]
    save_file(tensors, path, {"config": json.dumps(content)})
    with pytest.raises(GoldenFileError, match=name.removeprefix("weights.")):
        verify_file(path)
