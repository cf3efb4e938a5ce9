"""``partrm export``: a prediction as an articulated asset."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from partrm.assets import RESULT
from partrm.commands import UsageError, without_collecting
from partrm.commands.photographs import Opening, Photograph, begin_opening
from partrm.commands.predict import parse_drags

if TYPE_CHECKING:
    from partrm.assets.asset import Asset, AssetSettings
    from partrm.assets.predicted import PredictedObject
    from partrm.assets.predicted_parts import PredictedParts

DESCRIPTION = """Make a simulator's asset of a prediction: closed textured meshes, collision, mass, inertia, joint.

SOURCE is a folder that partrm predict wrote; or an image, with --drag: it is predicted first. With --parts separate
each --drag is about a part of its own, and the asset has a joint for each; several drags of one part are joined by +.

Writes into the folder OUT:
  object.urdf           for ROS, PyBullet, Isaac, Drake and others; with meshes/
  object.xml            the same as a MuJoCo model
  object.glb            for any glTF viewer, with the joint as an animation
  object.html           the GLB in a page that works offline, a slider a joint (--formats ... html)
  usd/                  USD with UsdPhysics (--formats ... usd; needs partrm[usd])
  asset.json            what is predicted, what is assumed (size, up, range, density), and the versions

One picture tells neither size nor weight: say them with --size-m and --density where you know them. All lengths are
metres, z is up, the front looks along x, the object stands on the floor.

Examples:
  partrm export result --out asset
  partrm export result --out asset --formats urdf mjcf glb usd --size-m 1.8 --range auto
  partrm export microwave.png --drag 150,130,90,140 --out asset
  partrm export kitchen.jpg --box 420,310,1210,1480 --drag 812,640,700,655 --out asset
  partrm export kitchen.jpg --parts separate --drag 812,640,700,655 --drag 300,900,280,960+350,900,330,960 --out asset
"""


@dataclass(frozen=True)
class PredictFirst:
    """How an image is predicted; see ``partrm predict``."""

    drag: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="X0,Y0,X1,Y1")] = ()
    """A drag from (X0, Y0) on the part to (X1, Y1), in pixels of the image; + joins several of one part."""
    parts: Literal["one", "separate"] = "one"
    """one: all drags pull the same part; separate: each --drag pulls a part of its own."""
    framing: Literal["auto", "canonical"] = "auto"
    """auto finds the object from its mask; canonical: the image has the canonical camera already."""
    model: str = "base"
    """Name of the bundled weights, or a checkpoint folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a CUDA device if there is one."""
    photo: Annotated[Photograph, tyro.conf.arg(name="")] = field(default_factory=Photograph)
    """What is known of a photograph."""


def export(
    source: tyro.conf.Positional[Path],
    out: Path,
    formats: tuple[Literal["urdf", "mjcf", "glb", "html", "usd"], ...] = ("urdf", "mjcf", "glb"),
    size_m: float = 0.6,
    up: Annotated[str, tyro.conf.arg(metavar="auto|X,Y,Z")] = "auto",
    density: float = 400.0,
    collision: Literal["boxes", "hulls"] = "boxes",
    range: Literal["predicted", "auto"] = "predicted",
    free_base: bool = False,
    force: bool = False,
    texture_px: int = 1024,
    predict: Annotated[PredictFirst, tyro.conf.arg(name="")] = PredictFirst(),
) -> None:
    """Make a simulator's asset of a prediction.

    Args:
        source: folder of partrm predict, or an image file (with --drag).
        out: folder for the asset; made if missing.
        formats: what to write.
        size_m: diagonal of the object's bounding box as it is in the picture, metres.
        up: direction that is up, in the prediction's frame (x right, y up in the image, z towards the camera); auto
            reads it off the joint's axis and the object's surfaces.
        density: of the meshes' filled volume, kg per cubic metre.
        collision: boxes keep hollow bodies hollow; hulls are CoACD's (needs coacd).
        range: of the joint, predicted: from the picture's state to the predicted one; auto: to where the part would
            meet the body or to the usual end of such joints.
        free_base: the body is not fixed to the world.
        force: export predictions of low confidence too.
        texture_px: side of each part's texture.
        predict: for images.
    """
    with without_collecting():
        asked = _asked(source, predict)

        # Heavy imports stay below what can be said without them.
        from partrm.assets.asset import AssetSettings
        from partrm.assets.export import check_folder, check_formats, export_prediction, require_packages
        from partrm.assets.predicted import load_predicted
        from partrm.commands.console import plain_console

        settings = AssetSettings(size_m, parse_up(up), density, collision, range, not free_base, force, texture_px)
        check_formats(formats)
        require_packages(settings, formats)
        check_folder(out)
        predicted = load_predicted(source) if asked is None else _predicted(*asked, predict)
        asset = export_prediction(predicted, out, settings, formats, name=plain_name(source.absolute().stem))
        console = plain_console()
        for line in _told(asset, settings):
            console.print(line)
        console.print(f"asset: {out / 'asset.json'}")


def parse_up(text: str) -> tuple[float, float, float] | None:
    """``auto`` as None, or X,Y,Z.

    Raises:
        UsageError: something else.
    """
    if text == "auto":
        return None
    try:
        x, y, z = (float(value) for value in text.split(","))
    except ValueError as error:
        raise UsageError(f"--up {text}: give auto, or three numbers X,Y,Z") from error
    return x, y, z


def _asked(source: Path, first: PredictFirst) -> tuple[Opening, list[list[tuple[float, ...]]]] | None:
    """The image that is to be predicted first, and the drags of each part; None for a folder that holds a result.

    Raises:
        UsageError: options that do not go together, or with the source.
    """
    if (source / RESULT).exists() or (source.is_dir() and not first.drag):
        if first != PredictFirst():
            raise UsageError(
                f"{source}: is a result already: --drag and what else tells how to predict go with an image"
            )
        return None
    if not first.drag and source.exists():
        raise UsageError(f"{source}: an image needs --drag X0,Y0,X1,Y1; or give a folder of partrm predict")
    parts = part_drags(first)
    return begin_opening(source, first.photo, first.framing, [drag for drags in parts for drag in drags]), parts


def _predicted(
    opening: Opening, parts: list[list[tuple[float, ...]]], first: PredictFirst
) -> "PredictedObject | PredictedParts":
    """What the model says of an image."""
    from partrm.api import PartRM
    from partrm.assets.predicted_parts import merge_parts

    model = PartRM.from_pretrained(first.model, first.device)
    views = model.open(opening.result(model.device), first.framing, fovy_deg=first.photo.fovy_deg)
    predictions = [model.predict(views, drags).to_predicted() for drags in parts]
    return predictions[0] if len(predictions) == 1 else merge_parts(predictions)


def part_drags(first: PredictFirst) -> list[list[tuple[float, ...]]]:
    """The drags of each part.

    Raises:
        UsageError: none, or some that are no drags.
    """
    texts = [tuple(text.split("+")) for text in first.drag]
    if first.parts == "one" or not texts:
        texts = [tuple(text for together in texts for text in together)]
    return [parse_drags(together) for together in texts]


def plain_name(name: str) -> str:
    """A name that descriptions can hold: letters, digits and _."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name) or "object"


def _told(asset: "Asset", settings: "AssetSettings") -> list[str]:
    """What was made and what was guessed, in words."""
    masses = ", ".join(
        f"{part.name} {body.mass.mass_kg:.2f} kg" for part, body in zip(asset.object.parts, asset.bodies, strict=True)
    )
    joints = [(part.name, part.joint) for part in asset.object.parts if part.joint is not None]
    lines = [
        f"{name}: {joint.type.name.lower()} joint from {joint.lower:.2f} to {joint.upper:.2f} "
        + ("m" if joint.type.name == "PRISMATIC" else "rad")
        + (f", hangs on {asset.object.parts[joint.parent].name}" if joint.parent else "")
        for name, joint in joints
    ]
    lines += [
        masses,
        f"assumed: diagonal {settings.size_m:g} m, {settings.density:g} kg/m3, "
        f"camera {asset.orientation.elevation_deg:.0f} degrees above the horizon"
        + (f" (within {asset.orientation.doubt_deg:.0f})" if settings.up is None else ""),
    ]
    if asset.photo_shares[0] is None:
        lines.append("textures show the Gaussians alone: this result does not hold its image (predict again)")
    return lines
