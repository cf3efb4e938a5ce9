"""A short run of the fuzzer (``make fuzz`` is the long one), and JSON of any shape by hypothesis."""

import json
from contextlib import suppress

import pytest

pytest.importorskip("warp")
pytest.importorskip("trimesh")
pytest.importorskip("mujoco")
pytest.importorskip("yourdfpy")
pytest.importorskip("accelerate")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.loaders import targets
from fuzz.run import fuzz, prepared
from partrm.errors import PartRMError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_damaged_files_are_read_or_refused_by_our_error(tmp_path):
    faults = [fault for _, fault in fuzz(3.0, 20261128, tmp_path) if fault is not None]
    assert not faults, [f"{fault.loader}: {fault.words}" for fault in faults]


@pytest.fixture(scope="module")
def json_targets(tmp_path_factory):
    work = tmp_path_factory.mktemp("fuzz")
    found = {name: target for name, target in targets(work).items() if target.json}
    return [(found[name], folder) for name, folder in prepared(found, work).items()]


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, data=st.data())
def test_json_of_any_shape_is_refused_by_our_error(json_targets, value, data):
    for target, folder in json_targets:
        name = target.damaged[0]
        sound = json.loads(target.files[name])
        keys = list(sound) if isinstance(sound, dict) else []
        other = dict(sound) | {data.draw(st.sampled_from(keys)): value} if keys else value
        (folder / name).write_text(json.dumps(other, ensure_ascii=True))
        with suppress(PartRMError):
            target.read(folder)
        (folder / name).write_bytes(target.files[name])
