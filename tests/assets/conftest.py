import json
from importlib.resources import files

import pytest
from support.gaussian_cabinet import cabinet, cabinet_of_three

from partrm.assets.asset import AssetSettings
from partrm.assets.export import export_prediction
from partrm.assets.predicted_parts import merge_parts
from partrm.geometry.joints import JointType

ALL = ("urdf", "mjcf", "glb", "html", "usd")
SMALL = AssetSettings(texture_px=256)


@pytest.fixture(scope="session")
def hinged(tmp_path_factory):
    """Asset and folder of the exact cabinet's door, with a photo, in all formats."""
    pytest.importorskip("mujoco_usd_converter", reason="the extra usd")
    folder = tmp_path_factory.mktemp("assets") / "hinged"
    return export_prediction(cabinet(photo=True).predicted, folder, SMALL, ALL, "cabinet"), folder


@pytest.fixture(scope="session")
def sliding(tmp_path_factory):
    """An uncertain one with a drawer's joint, without a photo, up to where drawers usually end."""
    folder = tmp_path_factory.mktemp("assets") / "sliding"
    settings = AssetSettings(texture_px=256, size_m=1.2, range="auto", force=True)
    return export_prediction(cabinet(JointType.PRISMATIC, confidence=0.3).predicted, folder, settings), folder


@pytest.fixture(scope="session")
def three(tmp_path_factory):
    """Asset and folder of the cabinet with a drawer, and a door with a dial on it, in all formats."""
    pytest.importorskip("mujoco_usd_converter", reason="the extra usd")
    folder = tmp_path_factory.mktemp("assets") / "three"
    return export_prediction(merge_parts(cabinet_of_three()), folder, AssetSettings(texture_px=64), ALL), folder


@pytest.fixture(scope="session")
def laptop_result(tmp_path_factory, draw_small):
    """What ``partrm predict`` writes for the bundled laptop, drawn small."""
    from partrm.api import PartRM

    root = files("partrm") / "example_images"
    examples = json.loads((root / "examples.json").read_text(encoding="utf-8"))["examples"]
    (about,) = [example for example in examples if example["file"] == "laptop.png"]
    folder = tmp_path_factory.mktemp("results") / "laptop"
    with pytest.MonkeyPatch.context() as patch:
        draw_small(patch)
        found = PartRM.from_pretrained("base", "cpu").predict(
            str(root / about["file"]), about["drags_px"], about["framing"]
        )
        found.save(folder)
    return found, folder
