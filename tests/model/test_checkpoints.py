import json
from pathlib import Path

import pytest
import torch

from partrm.model import checkpoints
from partrm.model.checkpoints import DROPPED_FIELDS, CheckpointError, all_finite, load_model, save_checkpoint
from partrm.model.network import TINY, PartRMNetwork


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARD_BYTES", 200_000)
    torch.manual_seed(0)
    network = PartRMNetwork(TINY)
    save_checkpoint(network.state_dict(), TINY, tmp_path / "m", {"seconds": 1}, half=False)
    return network, tmp_path / "m"


def test_round_trip_in_shards(saved) -> None:
    network, folder = saved
    assert len(list(folder.glob("*.safetensors"))) > 2
    loaded = load_model(folder)
    assert loaded.config == TINY
    state = loaded.network.state_dict()
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())
    assert len(loaded.hash) == 16
    assert not any(p.requires_grad for p in loaded.network.parameters())


def test_who_may_read_the_config_may_read_the_weights(saved) -> None:
    _, folder = saved
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_half_precision_halves_the_size_and_keeps_the_values(saved, tmp_path) -> None:
    network, folder = saved
    save_checkpoint(network.state_dict(), TINY, tmp_path / "h")
    sizes = [sum(f.stat().st_size for f in d.glob("*.safetensors")) for d in (tmp_path / "h", folder)]
    assert sizes[0] < 0.55 * sizes[1]
    worst = max(
        float((a - b).abs().max())
        for a, b in zip(load_model(tmp_path / "h").network.parameters(), network.parameters(), strict=True)
    )
    assert 0 < worst < 1e-3


def broken_shard(folder):
    path = sorted(folder.glob("*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[:100])


def missing_shard(folder):
    sorted(folder.glob("*.safetensors"))[1].unlink()


def other_config(folder):
    content = json.loads((folder / "config.json").read_text())
    content["network"]["down_channels"] = [32, 64]
    (folder / "config.json").write_text(json.dumps(content))


def bad_json(folder):
    (folder / "config.json").write_text("{")


def unknown_field(folder):
    content = json.loads((folder / "config.json").read_text())
    content["network"]["colour"] = 1
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken_shard, "broken weights file"),
        (missing_shard, "missing"),
        (other_config, "do not fit"),
        (bad_json, "not a checkpoint's config"),
        (unknown_field, "are not known here"),
    ],
)
def test_broken_checkpoints_are_refused(saved, spoil, message) -> None:
    _, folder = saved
    spoil(folder)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_unknown_name_is_refused(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="neither bundled"):
        load_model(tmp_path / "nothing")


def test_fields_that_older_checkpoints_have_are_dropped_where_they_say_nothing(saved) -> None:
    network, folder = saved
    content = json.loads((folder / "config.json").read_text())
    path = folder / "config.json"
    path.write_text(json.dumps(content | {"network": content["network"] | DROPPED_FIELDS}))
    loaded = load_model(folder)
    assert loaded.config == TINY
    assert all(torch.equal(loaded.network.state_dict()[k], v) for k, v in network.state_dict().items())
    others = {"head": "state", "joint_votes": False, "drag_levels": [1], "drag_positions": "raw_pixels"}
    for name, value in others.items():
        path.write_text(json.dumps(content | {"network": content["network"] | {name: value}}))
        with pytest.raises(CheckpointError, match=f"{name} .* is an experiment's"):
            load_model(folder)


def test_the_bundled_weights_say_of_dropped_fields_what_the_product_is() -> None:
    folder = Path(checkpoints.__file__).parent / "weights"
    for name in checkpoints.bundled_names():
        written = json.loads((folder / name / "config.json").read_text())["network"]
        assert {key: written[key] for key in DROPPED_FIELDS if key in written}.items() <= DROPPED_FIELDS.items()


def test_fields_that_are_missing_or_unknown_are_named(saved) -> None:
    _, folder = saved
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"network": content["network"] | {"colour": 1}}))
    with pytest.raises(CheckpointError, match=r"colour.* not known"):
        load_model(folder)
    del content["network"]["mid_depth"]
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"mid_depth.* missing"):
        load_model(folder)


def test_failed_save_leaves_the_old_one(saved, monkeypatch) -> None:
    network, folder = saved
    before = load_model(folder).hash

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(network.state_dict(), TINY, folder)
    assert load_model(folder).hash == before


@pytest.mark.parametrize(("field", "value"), [
    ("image_size_px", 257), ("image_size_px", None), ("image_size_px", 10**9), ("image_size_px", True),
    ("down_layers", 10**9), ("down_layers", -1), ("down_layers", "2"), ("mid_depth", 1.5),
    ("down_channels", [64] * 30), ("down_channels", [10**9, 64]), ("down_channels", 64), ("down_channels", []),
    ("attention_layers", [0, None]), ("layers", 3), ("name", 5), ("name", "x" * 10**4), ("fine_channels", 10**400),
])  # fmt: skip
def test_configs_out_of_range_are_refused_before_anything_is_built(saved, monkeypatch, field, value):
    _, folder = saved
    content = json.loads((folder / "config.json").read_text())
    content["network"][field] = value
    (folder / "config.json").write_text(json.dumps(content))
    monkeypatch.setattr(checkpoints, "build_network", None)
    monkeypatch.setattr(checkpoints, "load", None)
    with pytest.raises(CheckpointError, match=rf"config\.json: {field}"):
        load_model(folder)


def test_configs_that_no_reader_survives_are_refused(saved):
    _, folder = saved
    for text in (
        "[" * 10**5,
        '{"network": {"layers": ' + "1" * 5000 + "}}",
        "[]",
        '{"architecture": [], "network": {}}',
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            load_model(folder)


def test_weights_that_are_not_finite_or_no_regular_file_are_refused(saved):
    network, folder = saved
    weights = network.state_dict()
    weights["head.bias"][0] = float("nan")
    save_checkpoint(weights, TINY, folder, half=False)
    with pytest.raises(CheckpointError, match=r"head\.bias holds values that are not finite"):
        load_model(folder)
    shard = sorted(folder.glob("*.safetensors"))[0]
    shard.unlink()
    shard.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_value_that_is_not_finite_is_found_wherever_it_stands(dtype):
    assert all_finite(torch.zeros(0, dtype=dtype))
    for place in range(67):  # beyond the widest vector, and its rest
        values = torch.zeros(67, dtype=dtype)
        values[place] = torch.finfo(dtype).max
        assert all_finite(values)
        for bad in (torch.nan, torch.inf, -torch.inf):
            values[place] = bad
            assert not all_finite(values), (place, bad)
