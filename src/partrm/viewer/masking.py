"""The object's mask made by hand: a box drawn about it, strokes that add to it and take from it."""

from dataclasses import replace

import torch

from partrm.imaging.grabcut import Box, Stroke, grab_cut, painted
from partrm.viewer.geometry import Pixel
from partrm.viewer.picture import PictureDisplay
from partrm.viewer.sources import OpenedPicture, ViewError, reframed

MIN_BOX_PX = 8
"""Shorter sides of a box are a slip of the mouse."""


def boxed(picture: OpenedPicture, box: Box) -> OpenedPicture:
    """The picture with what GrabCut finds in a box (pixels of the picture) as its object.

    Raises:
        ViewError: the picture has a mask of its own, or the box is too small.
        ImageError: nothing stands out in the box.
    """
    if picture.cut_by == "alpha":
        raise ViewError("the picture has a mask in its alpha channel already: correct it with the brushes")
    if min(box[2] - box[0], box[3] - box[1]) < MIN_BOX_PX:
        raise ViewError(f"the box is too small: draw one of at least {MIN_BOX_PX} pixels each way")
    cut = torch.from_numpy(grab_cut(picture.rgba[:3].numpy(), box))
    return reframed(replace(picture, rgba=cut, cut_by="grabcut box", box_px=box, strokes=()))


def brushed(picture: OpenedPicture, stroke: Stroke) -> OpenedPicture:
    """The picture with its mask corrected: GrabCut cuts anew as all strokes tell, other masks are painted over.

    Raises:
        ViewError: nothing of the object is left.
        ImageError: GrabCut finds nothing.
    """
    strokes = (*picture.strokes, stroke)
    if picture.cut_by.startswith("grabcut"):
        rgba = torch.from_numpy(grab_cut(picture.rgba[:3].numpy(), picture.box_px, strokes=strokes))
    else:
        rgba = torch.cat([picture.rgba[:3], torch.from_numpy(painted(picture.rgba[3].numpy(), (stroke,)))[None]])
    if not bool((rgba[3] > 0.5).any()):
        raise ViewError("nothing of the object is left")
    return reframed(replace(picture, rgba=rgba, strokes=strokes))


class MaskGesture:
    """Follows the mouse while a box or a stroke is drawn, and shows it on the picture."""

    def __init__(self, picture: PictureDisplay) -> None:
        self._picture = picture
        self._points: list[Pixel] = []

    def box(self, start: Pixel, end: Pixel, released: bool) -> Box:
        """The box between two corners (pixels of the picture), drawn until the mouse is released."""
        box = min(start[0], end[0]), min(start[1], end[1]), max(start[0], end[0]), max(start[1], end[1])
        left, top, right, bottom = box
        outline = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        self._picture.draw_outline([] if released else outline)
        return box

    def stroke(self, start: Pixel, end: Pixel, released: bool, radius: float, adds: bool) -> Stroke:
        """The stroke so far, from where the mouse was pressed to where it is now (pixels of the picture)."""
        self._points = [*(self._points or [start]), end]
        stroke = Stroke(tuple(self._points), radius, adds)
        self._picture.draw_outline([] if released else self._points, radius, adds)
        if released:
            self._points = []
        return stroke
