"""The conventions of the published evaluation script, faults and all, so that its numbers can be set beside ours.

What ``--protocol reference`` does as the script did, and ``--protocol corrected`` does not:

- all twelve views are scored, the input view and its duplicate (view 11) among them;
- the views are joined to a strip, stored as JPEG, squeezed to two thirds of their width and cut into eight squares,
  most of which straddle two views; SSIM and LPIPS are taken on these squares, LPIPS without the scaling to [-1, 1];
- squares without any error are left out of the means;
- from the 156th line of the file list on, input views 1 to 3 are those of the line before, and on that line itself
  three copies of view 0 (the script reads them from a list with one line too many);
- the drag's point is drawn from all moving points, hidden ones too, but for those whose displacement sums to zero; all
  drags then have the displacement from the first *propagated* point to the drag's end, half a pixel off, clamped.

Not imitated: the random draws themselves (ours are seeded) and the propagation of drags by SAM (ours are visible points
of the part). Views 1 to 3 are the data set's renders; the script read generated ones, which are not published.
"""

import io

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from partrm.imaging.formats import open_image

CROPS = 8
CROP_PX = 256
"""Side of the squares that the script cuts, and height of its strips."""

MAX_STRIP_PX = 4096
"""What is wider is cut off."""

JPEG_QUALITY = 95
"""OpenCV's default."""

STRAY_LINE = 155
"""Index of the line of the script's second list that should not be there."""

DRAG_IMAGE_PX = 512
"""Side of the images in whose pixels the script gives drags."""


def published_crops(images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "crops 3 256 256"]:
    """The squares that the script scores instead of the views: a JPEG strip, squeezed, cut; on the images' device."""
    strip = rearrange(images, "v c h w -> h (v w) c").cpu().numpy()
    file = io.BytesIO()
    Image.fromarray((strip * 255).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=JPEG_QUALITY)
    with open_image(file) as stored:
        pixels = torch.from_numpy(np.asarray(stored).copy())[:, :MAX_STRIP_PX]
    whole = rearrange(pixels, "h w c -> 1 c h w").float()
    # Bilinear without low-pass filter, on 8 bit, as OpenCV resizes by default.
    squeezed = torch.nn.functional.interpolate(whole, (CROP_PX, CROPS * CROP_PX), mode="bilinear").round()
    return rearrange(squeezed[0] / 255, "c h (n w) -> n c h w", n=CROPS).to(images.device)


def input_line(line: int, view: int) -> int:
    """Line of the file list whose render the script takes for an input view of the sample on line ``line``.

    ``-1``: none; view 0 stands in.
    """
    if view == 0 or line < STRAY_LINE:
        return line
    return -1 if line == STRAY_LINE else line - 1


def published_drags(
    end_px: Float[Tensor, "2"], propagated_px: Float[Tensor, "n 2"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Starts and ends of the drags that the script gives the network, pixels of a 512 px image.

    Args:
        end_px: where the drag's point really goes; where it starts is lost, since the first propagated point
            overwrites it.
        propagated_px: points on the part.
    """
    end = (end_px + 0.5).clamp(0, DRAG_IMAGE_PX - 1)
    return propagated_px, (propagated_px + end - propagated_px[0]).clamp(0, DRAG_IMAGE_PX - 1)
