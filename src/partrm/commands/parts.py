"""``partrm parts``: the movable parts of a photographed object, found without a drag."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from partrm.commands.export import plain_name
from partrm.commands.photographs import CUT_BY, Photograph, begin_opening

DESCRIPTION = """Find the movable parts of an object in an image, without a drag.

SOURCE is a photograph of an object or an RGBA image of it. Places that look like parts are pulled, and the network
answers; what stands out is a part, with a confidence. It is a list of proposals: look at parts.png (docs/export.md says
how often they are right). On a CPU it takes up to a minute.

Writes into the folder OUT:
  parts.png             the image, every part found tinted and numbered
  parts.json            of each part: confidence, joint (type, axis, pivot, amount), mask file, the drag that shows it
  part_1.png, ...       the parts' masks in the image
  asset/                one asset of them all, as partrm export writes it (--no-asset leaves it out)

Examples:
  partrm parts cabinet.png --out found
  partrm parts kitchen.jpg --box 420,310,1210,1480 --out found --formats urdf mjcf glb html
  partrm parts kitchen.jpg --mask object.png --min-confidence 0.7 --no-asset --out found
"""


@dataclass(frozen=True)
class Given:
    """How the image is looked at; see ``partrm predict``."""

    framing: Literal["auto", "canonical"] = "auto"
    """auto finds the object from its mask; canonical: the image has the canonical camera already."""
    model: str = "base"
    """Name of the bundled weights, or a checkpoint folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a CUDA device if there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's numbers; bfloat16 takes half the time on CPUs with AMX."""
    photo: Annotated[Photograph, tyro.conf.arg(name="")] = field(default_factory=Photograph)
    """What is known of a photograph."""


@dataclass(frozen=True)
class AssetOptions:
    """What the asset is like; see ``partrm export``."""

    asset: bool = True
    """Make one asset of all parts."""
    formats: tuple[Literal["urdf", "mjcf", "glb", "html", "usd"], ...] = ("urdf", "mjcf", "glb")
    """What to write of it."""
    size_m: float = 0.6
    """Diagonal of the object's bounding box as it is in the image, metres."""
    range: Literal["predicted", "auto"] = "auto"
    """Of the joints, auto: to where a part would meet the body or to the usual end of such joints."""


def parts(
    source: tyro.conf.Positional[Path],
    out: Path,
    min_confidence: float = 0.4,
    given: Annotated[Given, tyro.conf.arg(name="")] = Given(),
    asset: Annotated[AssetOptions, tyro.conf.arg(name="")] = AssetOptions(),
) -> None:
    """Find the movable parts of an object in an image.

    Args:
        source: image file.
        out: folder for the results; made if missing.
        min_confidence: parts below it are left out, 0 to 1.
        given: how the image is looked at.
        asset: what the asset is like.
    """
    photo, framing = given.photo, given.framing
    opening = begin_opening(source, photo, framing)

    # Heavy imports stay below what can be said without them.
    from partrm.api import PartRM
    from partrm.assets.asset import AssetSettings
    from partrm.assets.export import WRITTEN, check_formats, require_packages
    from partrm.commands.console import counting_bar, plain_console
    from partrm.files import check_writable, staged_folder
    from partrm.inference.part_search import ASSET, MASKS, PICTURE, RECORD, check_confidence, export_parts, save_parts

    settings = AssetSettings(asset.size_m, range=asset.range, force=True)
    if asset.asset:
        check_formats(asset.formats)
        require_packages(settings, asset.formats)
    check_confidence(min_confidence)
    check_writable(out, (RECORD, PICTURE, ASSET), RECORD)
    console = plain_console()
    loaded = PartRM.from_pretrained(given.model, given.device, precision=given.precision)
    views = loaded.open(opening.result(loaded.device), framing, fovy_deg=photo.fovy_deg)
    console.print(CUT_BY[views.cut_by])
    with counting_bar("places to look") as advance:
        found = loaded.find_parts(views, min_confidence=min_confidence, advance=advance)
    outdated = (MASKS, ASSET, *(f"{ASSET}/{name}" for name in WRITTEN))
    with staged_folder(out, without=outdated, record=RECORD) as folder:
        about = save_parts(found, folder)
        if asset.asset:
            about["asset"] = export_parts(found, folder, settings, asset.formats, plain_name(source.stem))
        (folder / RECORD).write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for number, part in enumerate(found, start=1):
        joint = part.prediction.joint
        console.print(f"part {number}: {joint.type.name.lower()} joint, confidence {part.confidence:.2f}")
    refused = about.get("asset")
    if isinstance(refused, dict):
        console.print(f"no asset: {refused['refused']}")
    console.print(f"picture: {out / PICTURE}" + (f", asset: {out / ASSET}" if about.get("asset") == ASSET else ""))
