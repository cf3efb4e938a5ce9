"""Multi-scale drag embedding (PartRM, section 3.3): drags as feature maps at every scale of the U-Net.

Each drag is embedded by one MLP from Fourier features of its start, its end and the vector between them, so that
several drags stay paired; the result is written into a start map (at the start cell) and an end map (at the end
cell), blurred. Positions are fractions of the image and the maps lie as the image does (x right, y down).
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from partrm.geometry.drags import Drags
from partrm.model.unet import Norm


def fourier_features(values: Float[Tensor, "*batch d"], octaves: int) -> Float[Tensor, "*batch d*(2*{octaves}+1)"]:
    """``[v, sin(pi 2^k v), cos(pi 2^k v)]`` for k = 0 ... octaves - 1, of coordinates in about [-1, 1]."""
    frequencies = math.pi * 2.0 ** torch.arange(octaves, device=values.device, dtype=values.dtype)
    angles = values[..., None] * frequencies
    waves = torch.cat([torch.sin(angles), torch.cos(angles)], -1)
    return torch.cat([values, rearrange(waves, "... d k -> ... (d k)")], -1)


def gaussian_kernel(size: int, sigma: float) -> Float[Tensor, "{size} {size}"]:
    """Normalised 2D Gaussian kernel."""
    x = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    line = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = line[:, None] * line[None, :]
    return kernel / kernel.sum()


def scatter_to_map(
    features: Float[Tensor, "b n c"], position: Float[Tensor, "b n 2"], view: Int[Tensor, "b n"], views: int, size: int
) -> Float[Tensor, "b*{views} c {size} {size}"]:
    """Sum features into the cells of an otherwise zero map, one map a view.

    Args:
        features: one vector a drag, already zero for padding.
        position: fractions of the image; those outside of [0, 1) go to the nearest cell.
        view: which view's map each drag belongs to.
        views: number of views.
        size: side of the map, cells.
    """
    b, _, c = features.shape
    cell = (position * size).floor().clamp(0, size - 1).long()
    column, row = cell.unbind(-1)
    flat = ((torch.arange(b, device=features.device)[:, None] * views + view) * size + row) * size + column
    maps = features.new_zeros(b * views * size * size, c)
    maps = maps.index_add(0, flat.reshape(-1), features.reshape(-1, c))
    return rearrange(maps, "(b h w) c -> b c h w", b=b * views, h=size, w=size)


def point_mlp(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """Three linear layers with SiLU between them."""
    layers = (nn.Linear(width_in, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
    return nn.Sequential(*layers, nn.Linear(hidden, width_out))


class DragEmbedding(nn.Module):
    """Drags to start and end maps at one scale, fused with that scale's features by a zero-initialised residual."""

    def __init__(self, channels: int, embedding_channels: int = 64, octaves: int = 8, hidden: int = 256) -> None:
        super().__init__()
        self.octaves = octaves
        self.mlp = point_mlp(6 * (2 * octaves + 1), hidden, 2 * embedding_channels)
        self.norm = Norm(channels)
        self.fuse = nn.Conv2d(channels + 2 * embedding_channels, channels, 3, padding=1)
        nn.init.zeros_(self.fuse.weight)
        assert self.fuse.bias is not None
        nn.init.zeros_(self.fuse.bias)
        self.register_buffer("blur", gaussian_kernel(5, 1.0), persistent=False)

    def embed(self, drags: Drags) -> Float[Tensor, "b n c2"]:
        """One vector a drag (zero for padding), start half and end half."""
        start, end = 2 * drags.start - 1, 2 * drags.end - 1
        features = self.mlp(fourier_features(torch.cat([start, end, end - start], -1), self.octaves))
        return features * drags.valid[..., None]

    def place(
        self,
        features: Float[Tensor, "b n c"],
        position: Float[Tensor, "b n 2"],
        view: Int[Tensor, "b n"],
        views: int,
        size: int,
    ) -> Float[Tensor, "bv c {size} {size}"]:
        """Write vectors into maps, see :func:`scatter_to_map`."""
        return scatter_to_map(features, position, view, views, size)

    def maps(self, drags: Drags, views: int, size: int) -> Float[Tensor, "bv c2 {size} {size}"]:
        """Blurred start map and end map, concatenated."""
        start_features, end_features = self.embed(drags).chunk(2, -1)
        both = torch.cat(
            [
                self.place(start_features, drags.start, drags.view, views, size),
                self.place(end_features, drags.end, drags.view, views, size),
            ],
            1,
        )
        channels = both.shape[1]
        kernel = self.get_buffer("blur").to(both.dtype).expand(channels, 1, 5, 5)
        # The peak is scaled to one, so that a lone drag enters at full strength.
        return nn.functional.conv2d(both, kernel / kernel[0, 0, 2, 2], padding=2, groups=channels)

    def forward(self, features: Float[Tensor, "bv c s s"], drags: Drags, views: int) -> Float[Tensor, "bv c s s"]:
        """``O + Conv([Norm(O), start, end])``: PartRM's Eq. 4 with its input normalised.

        Without the norm the residual feeds on its own size: features grew a thousandfold within 1 500 steps.
        """
        maps = self.maps(drags, views, features.shape[-1]).to(features.dtype)
        return features + self.fuse(torch.cat([self.norm(features), maps], 1))
