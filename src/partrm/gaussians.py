"""3D Gaussians as one immutable value, and the PLY files of 3D Gaussian splatting."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from partrm.transforms import multiply_quaternions, quaternion_from_matrix


@dataclass(frozen=True)
class Gaussians:
    """A batch of sets of ``n`` Gaussians, all values activated (the 14 parameters of DESIGN §5)."""

    means: Float[Tensor, "*batch n 3"]
    """Centres, in the frame of the prediction (canonical unless said otherwise)."""
    quats: Float[Tensor, "*batch n 4"]
    """Unit quaternions wxyz: the rotation from the Gaussian's principal axes to the frame."""
    scales: Float[Tensor, "*batch n 3"]
    """Standard deviations along the principal axes, in units of the frame."""
    opacities: Float[Tensor, "*batch n"]
    """[0, 1]."""
    colors: Float[Tensor, "*batch n 3"]
    """RGB in [0, 1]."""

    def __len__(self) -> int:
        return self.means.shape[-2]

    def __getitem__(self, index) -> "Gaussians":
        """Index the leading (batch) dimensions, or select Gaussians of an unbatched set by mask or index."""
        return Gaussians(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device | str) -> "Gaussians":
        return Gaussians(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def transformed(self, T_target_source: Float[Tensor, "*#batch 4 4"]) -> "Gaussians":
        """Carry all Gaussians by one rigid motion."""
        R = T_target_source[..., :3, :3]
        means = self.means @ R.mT + T_target_source[..., None, :3, 3]
        quats = multiply_quaternions(quaternion_from_matrix(R)[..., None, :], self.quats)
        return Gaussians(means, quats, self.scales, self.opacities, self.colors)

    @staticmethod
    def concatenate(sets: "list[Gaussians]") -> "Gaussians":
        """One set holding all Gaussians of the given sets (same batch shape)."""
        return Gaussians(
            means=torch.cat([s.means for s in sets], -2),
            quats=torch.cat([s.quats for s in sets], -2),
            scales=torch.cat([s.scales for s in sets], -2),
            opacities=torch.cat([s.opacities for s in sets], -1),
            colors=torch.cat([s.colors for s in sets], -2),
        )
