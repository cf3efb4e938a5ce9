"""3D Gaussians as one immutable value, and the PLY files of 3D Gaussian splatting."""

import warnings
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.errors import PartRMError, PartRMWarning
from partrm.files import atomic_write
from partrm.geometry.ply import PlyError, ply_content, read_vertices
from partrm.geometry.tensor_record import TensorRecord
from partrm.geometry.transforms import multiply_quaternions, quaternion_from_matrix

SH_DEGREE_0 = 0.28209479177387814
"""Value of the constant spherical harmonic, 1 / (2 sqrt(pi)): rgb = 1/2 + SH_DEGREE_0 * f_dc."""

_POSITION = ("x", "y", "z")
_COLOR = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALE = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
_WRITTEN = (*_POSITION, "nx", "ny", "nz", *_COLOR, "opacity", *_SCALE, *_ROTATION)
_REQUIRED = (*_POSITION, *_COLOR, "opacity", *_SCALE, *_ROTATION)


class GaussianFileError(PartRMError):
    """Gaussians that cannot be read from or written to a PLY file; the message says where and why."""


@dataclass(frozen=True)
class Gaussians(TensorRecord):
    """A batch of sets of ``n`` Gaussians, all values activated (3 + 4 + 3 + 1 + 3 parameters)."""

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

    def transformed(self, T_target_source: Float[Tensor, "*#batch 4 4"]) -> "Gaussians":
        """Carry all Gaussians by one rigid motion."""
        R = T_target_source[..., :3, :3]
        means = self.means @ R.mT + T_target_source[..., None, :3, 3]
        quats = multiply_quaternions(quaternion_from_matrix(R)[..., None, :], self.quats)
        return Gaussians(means, quats, self.scales, self.opacities, self.colors)

    @staticmethod
    def where(first: Bool[Tensor, "*batch n"], a: "Gaussians", b: "Gaussians") -> "Gaussians":
        """Of two sets of one size, one by one, the Gaussians of ``a`` where ``first`` says so, else those of ``b``."""

        def chosen(name: str) -> Tensor:
            x, y = getattr(a, name), getattr(b, name)
            return torch.where(first if x.ndim == first.ndim else first[..., None], x, y)

        return Gaussians(**{field.name: chosen(field.name) for field in fields(Gaussians)})

    @staticmethod
    def concatenate(sets: "list[Gaussians]") -> "Gaussians":
        """One set holding all Gaussians of the given sets (same batch shape)."""
        return Gaussians.cat(sets, dim=sets[0].opacities.ndim - 1)


def save_ply(gaussians: Gaussians, path: Path | str, min_opacity: float = 0.0) -> None:
    """Write one unbatched set of Gaussians as a 3DGS PLY file (binary little endian), the inverse of :func:`load_ply`.

    The property names and encodings are those of 3D Gaussian Splatting (Kerbl et al. 2023), which the usual viewers
    read: log scale, logit opacity, ``f_dc = (rgb - 1/2) / SH_DEGREE_0``, rotation wxyz. Opacities are kept 1e-6 away
    from 0 and 1 and scales above 1e-10, so that every stored value is finite. The file appears under its name only
    when it is complete.

    Args:
        gaussians: a set [n] without batch dimensions.
        path: file to write; its folder must exist.
        min_opacity: Gaussians below it are left out. 0 keeps all, in order.

    Raises:
        GaussianFileError: batched or non-finite Gaussians.
        OutputError: the file cannot be written.
    """
    if gaussians.opacities.ndim != 1:
        raise GaussianFileError(
            f"save_ply writes one set of Gaussians, not a batch {tuple(gaussians.opacities.shape[:-1])}"
        )
    kept = gaussians[gaussians.opacities >= min_opacity] if min_opacity > 0 else gaussians
    vertices = np.zeros((len(kept), len(_WRITTEN)), np.float32)
    _write_looks(vertices, kept)
    _write_places(vertices, kept)
    atomic_write(path, *ply_content(_WRITTEN, vertices))


def save_moved_plys(before: Gaussians, before_path: Path | str, after: Gaussians, after_path: Path | str) -> None:
    """:func:`save_ply` of one set [n] in two places: of the second, centres and rotations alone are looked at.

    Raises:
        GaussianFileError: non-finite Gaussians.
        OutputError: a file cannot be written.
    """
    vertices = np.zeros((len(before), len(_WRITTEN)), np.float32)
    _write_looks(vertices, before)
    for gaussians, path in ((before, before_path), (after, after_path)):
        _write_places(vertices, gaussians)
        atomic_write(path, *ply_content(_WRITTEN, vertices))


def _write_looks(vertices: Float[np.ndarray, "n columns"], gaussians: Gaussians) -> None:
    """Colours, opacities and sizes into the columns of a PLY file."""
    _write(vertices, _COLOR, (gaussians.colors.double() - 0.5) / SH_DEGREE_0)
    _write(vertices, ("opacity",), torch.logit(gaussians.opacities.double(), eps=1e-6)[:, None])
    _write(vertices, _SCALE, gaussians.scales.double().clamp_min(1e-10).log())


def _write_places(vertices: Float[np.ndarray, "n columns"], gaussians: Gaussians) -> None:
    """Centres and rotations likewise."""
    _write(vertices, _POSITION, gaussians.means)
    _write(vertices, _ROTATION, gaussians.quats)


def _write(vertices: Float[np.ndarray, "n columns"], names: tuple[str, ...], values: Float[Tensor, "n k"]) -> None:
    array = values.detach().cpu().numpy()
    if not np.isfinite(array).all():
        raise GaussianFileError(f"Gaussians with non-finite {names[0]} cannot be saved")
    first = _WRITTEN.index(names[0])
    vertices[:, first : first + len(names)] = array


def load_ply(path: Path | str) -> Gaussians:
    """Read a 3DGS PLY file as unbatched float32 Gaussians, with unit quaternions.

    Properties beyond those that :func:`save_ply` writes (``f_rest_*`` and others) are ignored.

    Raises:
        GaussianFileError: missing, truncated or foreign file, missing property, or values that are not finite.
    """
    try:
        vertices = read_vertices(Path(path))
    except PlyError as error:
        raise GaussianFileError(str(error)) from error
    if missing := [name for name in _REQUIRED if name not in (vertices.dtype.names or ())]:
        raise GaussianFileError(f"{path}: no 3D Gaussians; missing {', '.join(missing)}")

    def group(names: tuple[str, ...]) -> Tensor:
        return torch.from_numpy(np.stack([vertices[name].astype(np.float64) for name in names], -1))

    quats = group(_ROTATION)
    sizes, opacity = group(_SCALE), group(("opacity",))
    if len(vertices) and bool((sizes > 0).all() and (opacity >= 0).all() and (opacity <= 1).all()):
        warnings.warn(
            f"{path}: its scales look like lengths and its opacities like shares, where logarithms and logits belong; "
            "it may show far too large",
            PartRMWarning,
            stacklevel=2,
        )
    decoded = Gaussians(
        means=group(_POSITION).float(),
        quats=(quats / quats.norm(dim=-1, keepdim=True)).float(),
        scales=group(_SCALE).exp().float(),
        opacities=torch.sigmoid(group(("opacity",))[:, 0]).float(),
        colors=(group(_COLOR) * SH_DEGREE_0 + 0.5).clamp_min(0.0).float(),
    )
    for name, values in decoded.leaves().items():
        if not torch.isfinite(values).all():
            raise GaussianFileError(f"{path}: {name} that are not finite")
    return decoded
