"""``partrm parts``: the movable parts of a photographed object, found without a drag."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from partrm.commands.export import plain_name
from partrm.commands.predict import CUT_BY, Photograph, check_photograph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from partrm.assets.asset import AssetSettings
    from partrm.assets.export import Format
    from partrm.inference.part_search import FoundPart

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

RECORD, PICTURE, ASSET = "parts.json", "parts.png", "asset"


@dataclass(frozen=True)
class Given:
    """How the image is looked at; see ``partrm predict``."""

    framing: Literal["auto", "canonical"] = "auto"
    """auto finds the object from its mask; canonical: the image has the canonical camera already."""
    model: str = "base"
    """Name of the bundled weights, or a checkpoint folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a CUDA device if there is one."""
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
    min_confidence: float = 0.5,
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
    box = check_photograph(photo, source, framing)

    # Heavy imports stay below what can be said without them.
    from partrm.api import PartRM, cutout_request
    from partrm.assets.asset import AssetSettings
    from partrm.assets.export import check_formats, require_packages
    from partrm.commands.console import counting_bar, plain_console
    from partrm.files import check_writable, staged_folder
    from partrm.inference.part_search import check_confidence

    settings = AssetSettings(asset.size_m, range=asset.range, force=True)
    if asset.asset:
        check_formats(asset.formats)
        require_packages(settings, asset.formats)
    check_confidence(min_confidence)
    check_writable(out, (RECORD, PICTURE, ASSET), RECORD)
    console = plain_console()
    loaded = PartRM.from_pretrained(given.model, given.device)
    request = cutout_request(photo.cutout, box, photo.mask, [], device=loaded.device)
    views = loaded.open(source, framing, cutout=request, fovy_deg=photo.fovy_deg)
    console.print(CUT_BY[views.cut_by])
    with counting_bar("places to look") as advance:
        found = loaded.find_parts(views, min_confidence=min_confidence, advance=advance)
    with staged_folder(out, without=(ASSET,), record=RECORD) as folder:
        about = save_parts(found, folder)
        if asset.asset:
            about["asset"] = _asset(found, folder / ASSET, settings, asset.formats, source.stem)
        (folder / RECORD).write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for number, part in enumerate(found, start=1):
        joint = part.prediction.joint
        console.print(f"part {number}: {joint.type.name.lower()} joint, confidence {part.confidence:.2f}")
    refused = about.get("asset")
    if isinstance(refused, dict):
        console.print(f"no asset: {refused['refused']}")
    console.print(f"picture: {out / PICTURE}" + (f", asset: {out / ASSET}" if about.get("asset") == ASSET else ""))


def save_parts(found: "Sequence[FoundPart]", folder: Path) -> dict[str, Any]:
    """Write the picture and the masks; the content of ``parts.json``."""
    from PIL import Image

    from partrm.imaging.images import save_image
    from partrm.inference.part_search import describe_parts, numbered_picture

    Image.fromarray(numbered_picture(found)).save(folder / PICTURE)
    about = describe_parts(found)
    for part, described in zip(found, about["parts"], strict=True):
        described["mask"] = f"part_{described['number']}.png"
        save_image(part.prediction.part_mask[None], folder / described["mask"])
    return about


def _asset(
    found: "Sequence[FoundPart]", folder: Path, settings: "AssetSettings", formats: "Sequence[Format]", name: str
) -> str | dict[str, str]:
    """One asset of all parts; why there is none where they do not go together."""
    from partrm.assets.export import export_prediction
    from partrm.assets.predicted import AssetError
    from partrm.assets.predicted_parts import merge_parts

    try:
        merged = merge_parts([part.prediction.to_predicted() for part in found])
        export_prediction(merged, folder, settings, formats, name=plain_name(name))
    except AssetError as error:
        return {"refused": str(error)}
    return ASSET
