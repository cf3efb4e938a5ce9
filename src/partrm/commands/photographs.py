"""Photographs as commands take them: the options, and an object that is looked for beside the import of PyTorch."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from partrm.commands import UsageError

if TYPE_CHECKING:
    import torch

    from partrm.imaging.photos import Photo

CUT_BY = {
    "alpha": "object: the image's alpha channel",
    "mask": "object: the mask given",
    "plain": "object: what stands out from the plain background",
    "grabcut box": "object: GrabCut in the box",
    "grabcut": "object: GrabCut's guess; if mask.png shows another, give --box X0,Y0,X1,Y1",
    "sam": "object: SAM",
}
"""What the command says of how it found the object."""


@dataclass(frozen=True)
class Photograph:
    """What is known of a photograph."""

    box: Annotated[str | None, tyro.conf.arg(metavar="X0,Y0,X1,Y1")] = None
    """Left, top, right and bottom of the object, pixels."""
    mask: Path | None = None
    """Image file of the object's mask, of the photograph's size: white, or opaque, is the object."""
    cutout: Literal["auto", "plain", "grabcut", "sam"] = "auto"
    """What finds the object."""
    fovy_deg: float | None = None
    """Vertical field of view, degrees (by default what EXIF data tell, if anything)."""


NOTHING_KNOWN = Photograph()


@dataclass(frozen=True)
class Opening:
    """A source whose options are sound; a photograph's object is being looked for meanwhile."""

    source: Path
    photo: Photograph
    box: tuple[float, float, float, float] | None
    touched: tuple[tuple[float, float], ...]
    """Where drags start, pixels of the photograph."""
    begun: "Future[Photo] | None"
    """None for a folder of posed views, and for SAM, which needs PyTorch."""

    def result(self, device: "torch.device | str" = "cpu", sam: str | None = None) -> "Photo | Path":
        """The photograph, its object found; a folder as it is.

        Args:
            device: where SAM runs.
            sam: its folder or Hub repository, if not the usual one.

        Raises:
            ImageError: a photograph that cannot be used, or no object found in it.
        """
        if self.begun is not None:
            return self.begun.result()
        if self.source.is_dir():
            return self.source
        from partrm.api import cutout_request
        from partrm.imaging.photos import open_photo
        from partrm.paper.sam_drags import MODEL

        asked = self.photo.cutout, self.box, self.photo.mask, self.touched
        return open_photo(self.source, cutout_request(*asked, sam or MODEL, device))


def begin_opening(
    source: Path,
    photo: Photograph,
    framing: Literal["auto", "canonical"],
    drags: Sequence[tuple[float, ...]] = (),
) -> Opening:
    """Check a photograph's options and look for its object in a thread: PyTorch's import takes a second of one core.

    Raises:
        UsageError: options that do not go together, or out of range.
    """
    box, touched = check_photograph(photo, source, framing), tuple((drag[0], drag[1]) for drag in drags)
    begun = None
    if not source.is_dir() and photo.cutout != "sam":
        from partrm.imaging.photos import CutoutRequest, open_photo

        request = CutoutRequest(photo.cutout, box, photo.mask, touched)
        begun = ThreadPoolExecutor(1).submit(open_photo, source, request)
    return Opening(source, photo, box, touched, begun)


def check_photograph(
    photo: Photograph, source: Path, framing: Literal["auto", "canonical"]
) -> tuple[float, float, float, float] | None:
    """What can be said about the photograph's options without it; the box.

    Raises:
        UsageError: options that do not go together, or out of range.
    """
    if source.is_dir() and photo != NOTHING_KNOWN:
        raise UsageError("--box, --mask, --cutout and --fovy-deg go with a photograph, not a folder of posed views")
    if photo.mask is not None and (photo.box is not None or photo.cutout != "auto"):
        raise UsageError("--mask tells the object: give no --box or --cutout beside it")
    if photo.fovy_deg is not None and framing == "canonical":
        raise UsageError("--framing canonical has its own lens: give no --fovy-deg beside it")
    from partrm.imaging.cutout import ImageError
    from partrm.imaging.photos import check_box, check_fovy

    try:
        check_fovy(photo.fovy_deg)
        if photo.box is None:
            return None
        box = tuple(float(value) for value in photo.box.split(","))
        check_box(box)
        return box[0], box[1], box[2], box[3]
    except ImageError as error:
        raise UsageError(str(error)) from error
    except ValueError as error:
        raise UsageError(f"--box {photo.box}: not numbers X0,Y0,X1,Y1") from error
