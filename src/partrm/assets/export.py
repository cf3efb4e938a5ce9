"""An asset's folder: descriptions, meshes and ``asset.json``, all or nothing."""

import json
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from partrm import __version__
from partrm.assets._surface_files import MESHES, SURFACE_FILES, save_surfaces
from partrm.assets.asset import Asset, AssetSettings, build_asset
from partrm.assets.glb_files import save_glb
from partrm.assets.html_files import save_html
from partrm.assets.mjcf_files import save_mjcf_asset
from partrm.assets.part_meshes import missing
from partrm.assets.predicted import PredictedObject
from partrm.assets.predicted_parts import PredictedParts
from partrm.assets.urdf_files import save_urdf_asset
from partrm.assets.usd_files import USD_FILES, save_usd
from partrm.errors import ConfigError
from partrm.files import check_writable, staged_folder
from partrm.geometry.joints import JointType

Format = Literal["urdf", "mjcf", "glb", "html", "usd"]

DEFAULT_FORMATS: tuple[Format, ...] = ("urdf", "mjcf", "glb")
"""What is written where nothing else is said: what the extra ``export`` can write, each thing once."""

FILES = {"urdf": "object.urdf", "mjcf": "object.xml", "glb": "object.glb", "html": "object.html", "usd": "usd"}
"""File or folder of each format."""

ABOUT = "asset.json"

WRITTEN = (*FILES.values(), MESHES, ABOUT, *SURFACE_FILES, *USD_FILES)
"""Patterns of whatever an asset's folder can hold of ours."""

PACKAGES = ("trimesh", "manifold3d", "scikit-image", "xatlas", "numpy", "scipy", "coacd", "mujoco-usd-converter")
"""Whose versions an asset depends on."""


def export_prediction(
    predicted: PredictedObject | PredictedParts,
    folder: str | Path,
    settings: AssetSettings | None = None,
    formats: Sequence[Format] = DEFAULT_FORMATS,
    name: str = "object",
    timings: bool = True,
) -> Asset:
    """Make the asset of a prediction, or of several merged, and write it into ``folder``: all files or none.

    Without ``timings`` ``asset.json`` does not say how long it took.

    Raises:
        ConfigError: no or unknown formats.
        AssetError: the prediction cannot become an asset; see :func:`build_asset`.
        PackageMissingError: a package of the extra ``export`` or ``usd`` is missing.
        OutputError: the folder cannot be written.
    """
    check_formats(formats)
    require_packages(settings or AssetSettings(), formats)
    check_folder(folder)
    asset = build_asset(predicted, settings, name)
    save_asset(asset, folder, formats, timings)
    return asset


def require_packages(settings: AssetSettings, formats: Sequence[Format]) -> None:
    """Find out before the work whether all packages are there.

    Raises:
        PackageMissingError: one is missing.
    """
    modules = {"skimage": "scikit-image", "manifold3d": "manifold3d", "xatlas": "xatlas", "trimesh": "trimesh"}
    needed = [(module, package, "export") for module, package in modules.items()]
    needed += [("coacd", "coacd", "hulls")] if settings.collision == "hulls" else []
    needed += [("mujoco_usd_converter", "mujoco-usd-converter", "usd")] if "usd" in formats else []
    for module, package, extra in needed:
        if find_spec(module) is None:
            raise missing(package, extra)


def check_folder(folder: str | Path) -> None:
    """Find out before the work whether an asset can be written; what stands there must be an earlier one.

    Raises:
        OutputError: it cannot.
    """
    check_writable(folder, (*FILES.values(), MESHES, ABOUT), ABOUT)


def check_formats(formats: Sequence[str]) -> None:
    """Refuse formats that there are not.

    Raises:
        ConfigError: none, or an unknown one.
    """
    known = get_args(Format)
    if not formats or any(name not in known for name in formats):
        raise ConfigError(f"formats {' '.join(formats) or '(none)'}: give some of {' '.join(known)}")


def save_asset(
    asset: Asset, folder: str | Path, formats: Sequence[Format] = DEFAULT_FORMATS, timings: bool = True
) -> None:
    """Write an asset into ``folder``: ``asset.json``, and ``object.*`` and ``meshes/`` as the formats need them.

    Raises:
        as :func:`export_prediction`.
    """
    check_formats(formats)
    with staged_folder(folder, without=WRITTEN, record=ABOUT) as staging:
        started = time.perf_counter()
        if {"urdf", "mjcf", "usd"} & set(formats):
            save_surfaces(asset, staging)
        if "urdf" in formats:
            save_urdf_asset(asset, staging / FILES["urdf"])
        if {"mjcf", "usd"} & set(formats):
            save_mjcf_asset(asset, staging / FILES["mjcf"])
        if "glb" in formats:
            save_glb(asset, staging / FILES["glb"])
        if "html" in formats:
            save_html(asset, staging / FILES["html"])
        if "usd" in formats:
            save_usd(staging / FILES["mjcf"], staging / FILES["usd"])
            if "mjcf" not in formats:
                (staging / FILES["mjcf"]).unlink()
        about = describe_asset(asset, formats)
        if timings:
            about["timings_s"] = asset.timings_s | {"files": time.perf_counter() - started}
        (staging / ABOUT).write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def describe_asset(asset: Asset, formats: Sequence[Format]) -> dict[str, Any]:
    """The content of ``asset.json`` but for the timings: what is predicted, what is assumed, and the versions."""
    files = {name: FILES[name] for name in formats}
    return {
        "partrm_version": __version__,
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "model": {"name": asset.model_name, "hash": asset.model_hash},
        "files": files | ({"meshes": MESHES} if {"urdf", "mjcf"} & set(formats) else {}),
        "frame": "metres, z up, front towards +x, the floor at z = 0; joint position 0 is the state in the picture",
        "predicted": {
            "confidence": min(asset.confidences),
            "joints": [_describe_joint(asset, number) for number in range(len(asset.confidences))],
            "parts": [_describe_part(asset, index) for index in range(len(asset.object.parts))],
        },
        "assumed": _assumptions(asset),
        "R_asset_canonical": asset.orientation.R_asset_canonical.tolist(),
        "origin_canonical": asset.origin_canonical.tolist(),
        "metres_per_canonical_unit": asset.metres_per_unit,
    }


def _describe_joint(asset: Asset, number: int) -> dict[str, Any]:
    part = asset.object.parts[number + 1]
    joint = part.joint
    assert joint is not None
    return {
        "name": joint.name,
        "part": part.name,
        "parent": asset.object.parts[joint.parent].name,
        "confidence": asset.confidences[number],
        "type": joint.type.name.lower(),
        "axis": list(joint.axis),
        "pivot_m": list(joint.pivot),
        "unit": "m" if joint.type == JointType.PRISMATIC else "rad",
        "predicted_amount": asset.predicted_amounts[number],
        "range": [joint.lower, joint.upper],
    }


def _describe_part(asset: Asset, index: int) -> dict[str, Any]:
    part, body = asset.object.parts[index], asset.bodies[index]
    return {
        "name": part.name,
        "triangles": len(part.faces),
        "collision_shapes": len(body.collision),
        "mass_kg": body.mass.mass_kg,
        "texture_from_photo": asset.photo_shares[index],
    }


def _assumptions(asset: Asset) -> dict[str, Any]:
    settings, orientation = asset.settings, asset.orientation
    ranges = {
        "predicted": "from the state in the picture to the predicted one",
        "auto": "to where the part would meet the body, or to the usual end of such joints (90 degrees; 0.8 of the "
        "body's depth)",
    }
    return {
        "size_m": {"value": settings.size_m, "of": "diagonal of the bounding box in the picture's state"},
        "up": {
            "source": orientation.source,
            "camera_elevation_deg": orientation.elevation_deg,
            "doubt_deg": orientation.doubt_deg,
            "axis_off_level_deg": orientation.axis_off_deg,
        },
        "range": {"kind": settings.range, "meaning": ranges[settings.range]},
        "density_kg_m3": settings.density,
        "fixed_base": settings.fixed_base,
        "collision": {"kind": settings.collision, "body_cleared_for_the_part": asset.cleared_share},
        "resistance": "damping stops a pushed part in about 0.5 s, dry friction is 5 % of what its weight could exert",
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
