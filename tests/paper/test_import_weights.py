"""Public weights into our checkpoints: every key, the same answers, and a clear line for what does not fit."""

import io
import json
import re
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.plain_reference import PlainReference

from partrm import PartRM
from partrm.cli import main
from partrm.model.checkpoints import CheckpointError, load_model
from partrm.model.reference import BIG, REFERENCE_PRESETS, PixelDrags, ReferenceConfig, ReferenceNetwork
from partrm.paper import import_weights as conversion
from partrm.paper.import_weights import (
    check_replaceable,
    convert_weights,
    detect_config,
    fetch_checkpoint,
    import_checkpoint,
    is_dropped,
    public_names,
    read_public_weights,
)

DATA = Path(__file__).parents[1] / "golden"
MINI = ReferenceConfig("mini", 32, (32, 32, 64), (False, False, True), (64, 32), (True, False))


@pytest.fixture(autouse=True)
def only_mini(monkeypatch):
    """The tests' presets: small enough to have weights."""
    monkeypatch.setattr(conversion, "REFERENCE_PRESETS", {"big": MINI, "tiny": replace(MINI, down_layers=1)})


@pytest.fixture(scope="module")
def plain() -> PlainReference:
    torch.manual_seed(0)
    return PlainReference(MINI).eval()


@pytest.fixture
def checkpoint(plain, tmp_path) -> Path:
    torch.save(plain.state_dict(), tmp_path / "public.ckpt")
    return tmp_path / "public.ckpt"


def given(generator) -> tuple[torch.Tensor, PixelDrags]:
    start, end = (512 * torch.rand(1, 4, 3, 2, generator=generator) for _ in range(2))
    return torch.randn(1, 4, 9, 32, 32, generator=generator), PixelDrags(start, end, torch.ones(1, 4, 3).bool())


def reconstructed(folder, channels, drags):
    network = load_model(folder).network
    assert isinstance(network, ReferenceNetwork)
    with torch.inference_mode():
        return network.reconstruct(channels, drags)


def test_every_public_key_is_taken_or_known_and_dropped() -> None:
    keys = json.loads((DATA / "checkpoint_keys.json").read_text())
    ours = public_names(BIG)
    assert len(set(ours.values())) == len(ours)
    for kind in ("partrm_big", "lgm_big"):
        assert {name for name in keys[kind] if name not in ours.values()} == set(filter(is_dropped, keys[kind]))
    assert not [name for name in ours.values() if is_dropped(name)]


def test_big_weights_of_both_kinds_are_told_from_small(monkeypatch) -> None:
    monkeypatch.setattr(conversion, "REFERENCE_PRESETS", REFERENCE_PRESETS)
    keys = json.loads((DATA / "checkpoint_keys.json").read_text())
    for kind in ("partrm_big", "lgm_big"):
        weights = {name: torch.empty(shape, device="meta") for name, shape in keys[kind].items()}
        assert detect_config(weights) == BIG
        assert conversion.kind_of(weights) == kind.removesuffix("_big")
        assert conversion.mismatches(weights, BIG) == []
        del weights["unet.up_blocks.4.nets.0.conv1.weight"]
        assert detect_config(weights) == BIG
        assert "1 missing" in conversion.mismatches(weights, BIG)[0]


def test_imported_partrm_answers_as_before(plain, checkpoint, tmp_path, generator) -> None:
    imported = import_checkpoint(checkpoint, tmp_path / "m")
    assert (imported.kind, imported.config, imported.dropped) == ("partrm", MINI, ("unet.alpha",))
    channels, drags = given(generator)
    with torch.inference_mode():
        expected = plain(channels, drags.start, drags.end)
    ours = reconstructed(tmp_path / "m", channels, drags)
    torch.testing.assert_close(ours.means, expected[..., :3], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.colors, expected[..., 11:], rtol=0, atol=1e-5)
    card = json.loads((tmp_path / "m" / "config.json").read_text())
    assert card["architecture"] == "reference"
    assert card["card"]["dropped"] == ["unet.alpha"]


def test_imported_lgm_answers_as_lgm_whatever_the_drags(tmp_path, generator) -> None:
    torch.manual_seed(3)
    lgm = PlainReference(MINI, with_drags=False).eval()
    save_file(lgm.state_dict(), tmp_path / "lgm.safetensors")
    assert import_checkpoint(tmp_path / "lgm.safetensors", tmp_path / "m").kind == "lgm"
    channels, drags = given(generator)
    with torch.inference_mode():
        expected = lgm(channels)
    ours = reconstructed(tmp_path / "m", channels, drags)
    torch.testing.assert_close(ours.means, expected[..., :3], rtol=0, atol=1e-5)


def test_containers_and_prefixes_are_taken_off(plain, tmp_path) -> None:
    state = {f"module.{k}": v for k, v in plain.state_dict().items()}
    torch.save({"model": state, "step": 3}, tmp_path / "a.pt")
    assert set(read_public_weights(tmp_path / "a.pt")) == set(plain.state_dict())


def test_half_weights_stay_half_on_disk(plain, checkpoint, tmp_path) -> None:
    save_file({k: v.half() for k, v in plain.state_dict().items()}, tmp_path / "half.safetensors")
    import_checkpoint(tmp_path / "half.safetensors", tmp_path / "h")
    import_checkpoint(checkpoint, tmp_path / "f")
    halves, floats = (load_file(next((tmp_path / d).glob("*.safetensors"))) for d in "hf")
    assert {v.dtype for v in halves.values()} == {torch.float16}
    assert {v.dtype for v in floats.values()} == {torch.float32}


class Payload:
    """A pickle that would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (io.open, (str(self.path), "w"))


def spoiled(plain) -> dict[str, tuple[dict, str]]:
    good = dict(plain.state_dict())
    key = "unet.down_blocks.0.nets.0.conv1.weight"
    renamed = {("unet.encoder.weight" if k == key else k): v for k, v in good.items()}
    return {
        "missing": ({k: v for k, v in good.items() if k != key}, key),
        "unexpected": (good | {"unet.extra.weight": torch.ones(2)}, "1 unexpected .unet.extra.weight"),
        "renamed": (renamed, r"1 missing .*1 unexpected .unet\.encoder\.weight"),
        "misshapen": (good | {key: torch.ones(3, 3)}, r"of another shape .*\(3, 3\) instead of \(32, 32, 3, 3\)"),
        "half the drags": ({k: v for k, v in good.items() if "merges.1" not in k}, "2 missing"),
        "not finite": (good | {key: torch.full((32, 32, 3, 3), torch.nan)}, "not finite"),
        "no weights": ({"a": 1, "b": torch.ones(1)}, "1 entries are not tensors"),
        "empty": ({}, "no weights by name"),
    }


@pytest.mark.parametrize(
    "case", ["missing", "unexpected", "renamed", "misshapen", "half the drags", "not finite", "no weights", "empty"]
)
def test_wrong_weights_are_refused_by_name(plain, tmp_path, case) -> None:
    content, message = spoiled(plain)[case]
    torch.save(content, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match=message) as caught:
        import_checkpoint(tmp_path / "bad.ckpt", tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path) -> None:
    torch.save({"unet.conv_in.weight": torch.ones(1), "x": Payload(tmp_path / "owned")}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match=r"refused, it would run or build _?io\.open"):
        read_public_weights(tmp_path / "bad.ckpt")
    assert not (tmp_path / "owned").exists()


def test_broken_files_give_one_clear_line(plain, checkpoint, tmp_path) -> None:
    good = checkpoint.read_bytes()
    save_file(plain.state_dict(), tmp_path / "good.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:5000])
    (tmp_path / "good.safetensors").unlink()
    (tmp_path / "cut.ckpt").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "folder.ckpt").mkdir()
    with zipfile.ZipFile(tmp_path / "archive.pth", "w") as archive:
        archive.writestr("a.txt", "nothing")
    checkpoint.unlink()
    paths = [*tmp_path.iterdir(), tmp_path / "absent.ckpt"]
    assert len(paths) == 8
    for path in paths:
        with pytest.raises(CheckpointError) as caught:
            read_public_weights(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert not re.search(r"\(\d*\)", str(caught.value)), "a bare number is no reason"


def test_other_folders_are_left_alone(checkpoint, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(CheckpointError, match=r"thesis\.tex"):
        import_checkpoint(checkpoint, tmp_path / "mine")
    with pytest.raises(CheckpointError, match="is a file"):
        check_replaceable(checkpoint)
    for _ in range(2):  # an older checkpoint is replaced
        import_checkpoint(checkpoint, tmp_path / "m")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_hub_addresses(monkeypatch, checkpoint) -> None:
    def download(repo_id, filename):
        assert (repo_id, filename) == ("owner/name", "sub/file.ckpt")
        return str(checkpoint)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert fetch_checkpoint("hf:owner/name/sub/file.ckpt") == checkpoint
    assert fetch_checkpoint("a/b.ckpt") == Path("a/b.ckpt")
    with pytest.raises(CheckpointError, match="hf:owner/name/file"):
        fetch_checkpoint("hf:owner/name")

    def fail(*_args):
        raise OSError("no network\nmore")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(CheckpointError, match=r"cannot be fetched \(no network\)"):
        fetch_checkpoint("hf:owner/name/file.ckpt")


def test_pretrained_saved_pushed_and_fetched(monkeypatch, checkpoint, tmp_path) -> None:
    import_checkpoint(checkpoint, tmp_path / "m")
    model = PartRM.from_pretrained(tmp_path / "m")
    model.save_pretrained(tmp_path / "deep" / "copy")
    remote = tmp_path / "remote"

    class Api:
        def __init__(self, token):
            assert token == "secret"

        def create_repo(self, repo_id, private, exist_ok):
            assert (repo_id, private, exist_ok) == ("owner/name", True, True)
            return f"https://huggingface.co/{repo_id}"

        def file_exists(self, repo_id, filename):
            return (remote / filename).exists()

        def upload_folder(self, repo_id, folder_path, commit_message, ignore_patterns):
            assert commit_message == "mine"
            remote.mkdir(exist_ok=True)
            for file in folder_path.iterdir():
                if file.name not in ignore_patterns:
                    (remote / file.name).write_bytes(file.read_bytes())

    asked = []

    def download(repo_id, **options):
        asked.append((repo_id, options))
        return str(remote)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for _ in range(2):
        address = model.push_to_hub("owner/name", private=True, token="secret", commit_message="mine")
        assert address.endswith("owner/name")
        (remote / "README.md").write_text((remote / "README.md").read_text() + "my words")
    card = (remote / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: partrm\n")
    assert "my wordsmy words" in card
    fetched = PartRM.from_pretrained("owner/name", revision="v1", token="t", local_files_only=True)
    ((repository, options),) = asked
    assert repository == "owner/name"
    assert (options["revision"], options["token"], options["local_files_only"]) == ("v1", "t", True)
    for again in (PartRM.from_pretrained(tmp_path / "deep" / "copy"), fetched):
        assert again.model.hash == model.model.hash
        state = again.network.state_dict()
        assert all(torch.equal(state[k], v) for k, v in model.network.state_dict().items())


def test_repositories_that_cannot_be_reached_give_one_line(monkeypatch, checkpoint, tmp_path) -> None:
    import_checkpoint(checkpoint, tmp_path / "m")

    def fail(*_args, **_kwargs):
        raise OSError("no network\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fail)
    for call in (
        lambda: PartRM.from_pretrained("owner/name"),
        lambda: PartRM.from_pretrained(tmp_path / "m").push_to_hub("owner/name"),
    ):
        with pytest.raises(CheckpointError, match=r"^owner/name: cannot be .*\(no network\)$"):
            call()


def test_unknown_architecture_is_refused(checkpoint, tmp_path) -> None:
    import_checkpoint(checkpoint, tmp_path / "m")
    content = json.loads((tmp_path / "m" / "config.json").read_text())
    assert content["network"] == json.loads(json.dumps(asdict(MINI)))
    (tmp_path / "m" / "config.json").write_text(json.dumps(content | {"architecture": "newer"}))
    with pytest.raises(CheckpointError, match="'newer' is not known"):
        load_model(tmp_path / "m")


def test_command_imports(checkpoint, tmp_path, capsys) -> None:
    assert main(["import", str(checkpoint), "--out", str(tmp_path / "new" / "m")]) == 0
    assert "PartRM mini" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "absent.ckpt"), "--out", str(tmp_path / "x")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_float64_and_integers(plain) -> None:
    state = {k: v.double() for k, v in plain.state_dict().items()}
    assert {v.dtype for v in convert_weights(state, MINI).values()} == {torch.float32}
    with pytest.raises(CheckpointError, match="not finite numbers"):
        convert_weights(state | {"conv.bias": torch.zeros(14, dtype=torch.long)}, MINI)
