"""``partrm predict``: images and drags in, moved 3D Gaussians and the joint out."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from partrm.commands import UsageError

DESCRIPTION = """Drag a part of an object in an image, get the object after the part has moved.

SOURCE is an image of one object (RGBA, or RGB with a plain background), or a folder of 1 to 4 posed views
(000.png, 001.png, ...) with cameras.json. Drags are in pixels of the (first) image.

Writes into the folder OUT:
  gaussians.ply         3D Gaussians after the drag (gaussians_before.ply: before), for any 3DGS viewer
  views/NNN.png         the object after the drag, RGBA, from 8 cameras around it or those of --cameras
  before_after.png      input with part and drag, before, after
  motion.mp4            the part moving
  part_mask.png         the moving part in the first image
  prediction.json       the joint (type, axis, pivot, amount, confidence), timings, model

Examples:
  partrm predict microwave.png --drag 150,130,90,140 --out result
  partrm predict photo.jpg --drag 812,640,700,655 --drag 810,700,698,716 --out result
  partrm predict views_folder --drag 150,130,90,140 --cameras cameras.json --out result
"""


def predict(
    source: tyro.conf.Positional[Path],
    out: Path,
    drag: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="X0,Y0,X1,Y1")] = (),
    cameras: Path | None = None,
    framing: Literal["auto", "canonical"] = "auto",
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Drag a part of an object in an image, get the object after the part has moved.

    Args:
        source: image file, or folder of posed views with cameras.json.
        out: folder for the results; made if missing.
        drag: a drag from (X0, Y0) on the part to (X1, Y1), in pixels of the first image; 1 to 10 of them.
        cameras: cameras.json with the cameras (canonical frame) for views/ and motion.mp4.
        framing: auto finds the object from its mask; canonical: the image has the canonical camera already.
        model: name of the bundled weights, or a weights file.
        device: auto takes a CUDA device if there is one.
    """
    drags = parse_drags(drag)

    # Heavy imports stay below what can be said without them.
    import torch
    from rich.console import Console

    from partrm.cameras import load_cameras
    from partrm.model.checkpoints import load_model
    from partrm.outputs import save_prediction, staged_folder
    from partrm.pipeline import check_drags, load_source
    from partrm.pipeline import predict as predict_motion

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: no CUDA device is available here, use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    target = None if cameras is None else load_cameras(cameras)
    with staged_folder(out):
        # Found out now rather than after the work: the results can be written.
        pass
    loaded = load_model(model, device)
    views = load_source(source, loaded.config.image_size_px, framing)
    prediction = predict_motion(views, check_drags(drags, views), loaded)
    save_prediction(prediction, out, target)

    joint, console = prediction.joint, Console(highlight=False, soft_wrap=True)
    amount = f"{joint.amount:.2f} rad" if joint.type.name == "REVOLUTE" else f"{joint.amount:.3f} object diagonals"
    console.print(
        f"{joint.type.name.lower()} joint, moved by {amount}, confidence {joint.confidence:.2f}; "
        f"network {prediction.timings_s['network']:.1f} s"
    )
    if not bool(prediction.moving.any()):
        console.print("[yellow]nothing moves: the network found no part under the drag[/yellow]")
    console.print(f"pictures: {out / 'before_after.png'}, {out / 'motion.mp4'}, {out / 'views'}")


def parse_drags(texts: tuple[str, ...]) -> list[tuple[float, ...]]:
    """Drags of the command line, X0,Y0,X1,Y1 each.

    Raises:
        UsageError: none or too many, or not four finite numbers each, or of no length.
    """
    if not texts:
        raise UsageError("give at least one --drag X0,Y0,X1,Y1")
    drags = []
    for text in texts:
        try:
            drags.append(tuple(float(value) for value in text.split(",")))
        except ValueError as error:
            raise UsageError(f"--drag {text}: not numbers X0,Y0,X1,Y1") from error

    from partrm.pipeline import DragError, check_drag_numbers

    try:
        check_drag_numbers(drags)
    except DragError as error:
        raise UsageError(str(error)) from error
    return drags
