"""Points spread evenly over surfaces."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sample_triangles(
    corners: Float[Tensor, "f 3 3"], count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "count 3"], Int[Tensor, " count"]]:
    """Points uniform over the area of some triangles, and the triangle of each."""
    edges = corners[:, 1:] - corners[:, :1]
    area = torch.cross(edges[:, 0], edges[:, 1], dim=-1).norm(dim=-1).double()
    of_face = torch.multinomial(area, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator)
    folded = u + v > 1
    u, v = torch.where(folded, 1 - u, u), torch.where(folded, 1 - v, v)
    chosen = edges[of_face]
    return corners[of_face, 0] + u[:, None] * chosen[:, 0] + v[:, None] * chosen[:, 1], of_face
