"""More drags from the user's, as the paper makes them: SAM (Kirillov et al. 2023) finds the dragged part in the image.

Unlike the public implementation, SAM sees the object on white rather than what lies under its transparent pixels; of
its three masks the part is taken rather than the smallest one, which is often a handle; and where two drags or more lie
on a part, its points move by the similarity that fits them rather than all by one translation. Our own network needs
none of this; reference weights were trained with ten drags.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.errors import PartRMError, first_line
from partrm.imaging.drawing import to_bytes

MODEL = "facebook/sam-vit-base"
"""On the Hugging Face Hub, 375 MB, Apache-2.0; the paper took facebook/sam-vit-huge."""

SCORE_SHARE = 0.8
"""A mask of a lower predicted IoU than this share of the best one's is no candidate."""

WHOLE_SHARE = 0.8
"""A mask that covers more of the object than this is the object, not a part."""

MIN_MASK_PX = 10
"""Smaller masks are specks."""

CANDIDATES = 256
"""Random points of a mask out of which far apart ones are taken."""


class SegmentationError(PartRMError):
    """A model that cannot be loaded, or packages that are missing; the message says what to do."""


Segment = Callable[[Float[Tensor, "3 h w"], Float[Tensor, "2"]], tuple[Bool[Tensor, "m h w"], Float[Tensor, " m"]]]
"""Masks at a point (x, y) of an image in [0, 1], and the IoU that the model expects of each: what SAM does."""


@dataclass(frozen=True)
class Sam:
    """SAM with its processor; see :func:`load_sam`."""

    model: Any
    """``transformers.SamModel``."""
    processor: Any
    """``transformers.SamProcessor``."""

    @torch.inference_mode()
    def __call__(
        self, rgb: Float[Tensor, "3 h w"], point: Float[Tensor, "2"]
    ) -> tuple[Bool[Tensor, "3 h w"], Float[Tensor, "3"]]:
        """Whole, part and subpart at a point, in an order of the model's."""
        # SAM counts from the first pixel's centre.
        given = self.processor(images=to_bytes(rgb), input_points=[[(point - 0.5).tolist()]], return_tensors="pt")
        device = self.model.device
        answer = self.model(
            pixel_values=given["pixel_values"].to(device), input_points=given["input_points"].float().to(device)
        )
        sizes = given["original_sizes"], given["reshaped_input_sizes"]
        masks = self.processor.image_processor.post_process_masks(answer.pred_masks.cpu(), *sizes)[0]
        return masks[0].bool(), answer.iou_scores[0, 0].float().cpu()

    @torch.inference_mode()
    def object_mask(
        self, rgb: Float[Tensor, "3 h w"], box: Float[Tensor, "4"] | None, points: Float[Tensor, "n 2"]
    ) -> Bool[Tensor, "h w"]:
        """The object in a box and at points of it: the best of the model's three masks."""
        pixels = (rearrange(rgb, "c h w -> h w c") * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        prompts: dict[str, Any] = {}
        if box is not None:
            prompts["input_boxes"] = [[(box - 0.5).tolist()]]
        if len(points):
            prompts["input_points"] = [[(points - 0.5).tolist()]]
        given = self.processor(images=pixels, return_tensors="pt", **prompts)
        device = self.model.device
        told = {name: given[name].float().to(device) for name in prompts}
        answer = self.model(pixel_values=given["pixel_values"].to(device), **told)
        sizes = given["original_sizes"], given["reshaped_input_sizes"]
        masks = self.processor.image_processor.post_process_masks(answer.pred_masks.cpu(), *sizes)[0]
        return masks[0, int(answer.iou_scores[0, 0].argmax())].bool()


def load_sam(model: str | Path = MODEL, device: torch.device | str = "cpu") -> Sam:
    """SAM from a folder, or from a repository of the Hub (downloaded once).

    Raises:
        SegmentationError: transformers is missing, or the model cannot be fetched or read.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise SegmentationError("SAM needs transformers: pip install 'partrm[sam]'") from error
    try:
        network: Any = transformers.SamModel.from_pretrained(model)
        processor = transformers.SamProcessor.from_pretrained(model)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SegmentationError(f"{model}: not a SAM model that can be read ({first_line(error)})") from error
    return Sam(network.to(device).eval().requires_grad_(False), processor)


def choose_mask(
    masks: Bool[Tensor, "m h w"], scores: Float[Tensor, " m"], alpha: Float[Tensor, "h w"], point: Float[Tensor, "2"]
) -> Bool[Tensor, "h w"] | None:
    """The largest mask at a point that SAM is sure of and that is a part, cut by the object; None if there is none.

    Args:
        masks: of the whole object, the part, a part of it.
        scores: predicted IoU of each.
        alpha: of the image.
        point: (x, y), pixels.
    """
    solid = alpha > 0.5
    inside = masks & solid
    x, y = (int(value) for value in point.floor())
    area = inside.sum((1, 2))
    part = inside[:, y, x] & (area >= MIN_MASK_PX) & (area <= WHOLE_SHARE * solid.sum())
    part &= scores >= SCORE_SHARE * scores.max()
    if not bool(part.any()):
        return None
    return inside[int(torch.where(part, area, -1).argmax())]


def propagate(
    rgba: Float[Tensor, "4 h w"],
    starts: Float[Tensor, "n 2"],
    ends: Float[Tensor, "n 2"],
    segment: Segment,
    count: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "more 2"], Float[Tensor, "more 2"]]:
    """Drags for other points of the dragged parts, after the user's own, ``count`` in all at most.

    Args:
        rgba: image with straight alpha, [0, 1].
        starts: the user's drags in pixels of the image, starting on the object; likewise ``ends``.
        segment: SAM.
        count: of drags wanted.
        generator: draws the points.

    Returns:
        starts and ends; the user's drags come first, unchanged. Points that would leave the image are left out.
    """
    on_white = rgba[:3] * rgba[3:] + 1 - rgba[3:]
    parts: list[Bool[Tensor, "h w"]] = []
    for start in starts:
        if any(bool(mask[int(start[1]), int(start[0])]) for mask in parts):
            continue
        mask = choose_mask(*segment(on_white, start), rgba[3], start)
        if mask is not None:
            parts.append(mask)
    all_starts, all_ends, height, width = [starts], [ends], *rgba.shape[1:]
    for index, mask in enumerate(parts):
        columns, rows = starts.floor().long().unbind(-1)
        own = mask[rows, columns]
        share = (count - sum(map(len, all_starts))) // (len(parts) - index)
        points = far_points(mask, starts[own], share, generator)
        moved = move(points, starts[own], ends[own])
        seen = ((moved >= 0) & (moved < moved.new_tensor([width, height]))).all(-1)
        all_starts.append(points[seen])
        all_ends.append(moved[seen])
    return torch.cat(all_starts), torch.cat(all_ends)


def far_points(
    mask: Bool[Tensor, "h w"], taken: Float[Tensor, "n 2"], count: int, generator: torch.Generator
) -> Float[Tensor, "count 2"]:
    """Centres (x, y) of pixels of a mask, each far from the points taken before it."""
    rows, columns = torch.nonzero(mask).unbind(-1)
    drawn = torch.randint(len(rows), (CANDIDATES,), generator=generator)
    candidates = torch.stack([columns[drawn], rows[drawn]], -1) + 0.5
    points = taken
    for _ in range(max(count, 0)):
        nearest = torch.cdist(candidates, points).amin(1)
        points = torch.cat([points, candidates[nearest.argmax()][None]])
    return points[len(taken) :]


def move(
    points: Float[Tensor, "k 2"], starts: Float[Tensor, "n 2"], ends: Float[Tensor, "n 2"]
) -> Float[Tensor, "k 2"]:
    """Where the similarity that fits the drags best (least squares) takes points; one drag gives a translation."""
    centre, target = starts.mean(0), ends.mean(0)
    a, b = (torch.view_as_complex((x - x.mean(0)).contiguous()) for x in (starts, ends))
    spread = a.abs().square().sum()
    turn = (a.conj() * b).sum() / spread if float(spread) > 1 else torch.ones((), dtype=a.dtype)
    turned = torch.view_as_complex((points - centre).contiguous()) * turn
    return torch.view_as_real(turned) + target
