"""3D Gaussians as one immutable value, and the PLY files of 3D Gaussian splatting."""

import os
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partrm.transforms import multiply_quaternions, quaternion_from_matrix

SH_DEGREE_0 = 0.28209479177387814
"""Value of the constant spherical harmonic, 1 / (2 sqrt(pi)): rgb = 1/2 + SH_DEGREE_0 * f_dc."""

_POSITION = ("x", "y", "z")
_COLOR = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALE = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
_WRITTEN = (*_POSITION, "nx", "ny", "nz", *_COLOR, "opacity", *_SCALE, *_ROTATION)
_REQUIRED = (*_POSITION, *_COLOR, "opacity", *_SCALE, *_ROTATION)
_PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "<i2", "ushort": "<u2", "int": "<i4", "uint": "<u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4", "uint32": "<u4"},
    **{"float": "<f4", "double": "<f8", "float32": "<f4", "float64": "<f8"},
}
_MAX_HEADER_LINES = 1000


class GaussianFileError(ValueError):
    """A Gaussian PLY file that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Gaussians:
    """A batch of sets of ``n`` Gaussians, all values activated (14 parameters each)."""

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

    def scaled(self, factor: float) -> "Gaussians":
        """Carry all Gaussians by a scaling about the origin."""
        return Gaussians(self.means * factor, self.quats, self.scales * factor, self.opacities, self.colors)

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
        ValueError: batched or non-finite Gaussians.
        GaussianFileError: the file cannot be written.
    """
    if gaussians.opacities.ndim != 1:
        raise ValueError(f"save_ply writes one set of Gaussians, not a batch {tuple(gaussians.opacities.shape[:-1])}")
    kept = gaussians[gaussians.opacities >= min_opacity] if min_opacity > 0 else gaussians
    groups = {
        _POSITION: kept.means,
        _COLOR: (kept.colors.double() - 0.5) / SH_DEGREE_0,
        ("opacity",): torch.logit(kept.opacities.double(), eps=1e-6)[:, None],
        _SCALE: kept.scales.double().clamp_min(1e-10).log(),
        _ROTATION: kept.quats,
    }
    vertices = np.zeros(len(kept), dtype=[(name, "<f4") for name in _WRITTEN])
    for names, values in groups.items():
        array = values.detach().cpu().numpy()
        if not np.isfinite(array).all():
            raise ValueError(f"Gaussians with non-finite {names[0]} cannot be saved")
        for i, name in enumerate(names):
            vertices[name] = array[:, i]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(kept)}"]
    header += [f"property float {name}" for name in _WRITTEN] + ["end_header", ""]
    _write_atomically(Path(path), "\n".join(header).encode("ascii") + vertices.tobytes())


def load_ply(path: Path | str) -> Gaussians:
    """Read a 3DGS PLY file (binary little endian) as unbatched float32 Gaussians, with unit quaternions.

    Properties beyond those that :func:`save_ply` writes (``f_rest_*`` and others) are ignored.

    Raises:
        GaussianFileError: missing, truncated or foreign file, missing property, or values that are not finite.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            count, dtype = _read_ply_header(file, path)
            content = file.read(min(count * dtype.itemsize, path.stat().st_size))
    except OSError as error:
        raise GaussianFileError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) < count * dtype.itemsize:
        raise GaussianFileError(f"{path}: truncated ({len(content) // dtype.itemsize} of {count} Gaussians)")
    vertices = np.frombuffer(content, dtype, count)

    def group(names: tuple[str, ...]) -> Tensor:
        return torch.from_numpy(np.stack([vertices[name].astype(np.float64) for name in names], -1))

    quats = group(_ROTATION)
    decoded = Gaussians(
        means=group(_POSITION).float(),
        quats=(quats / quats.norm(dim=-1, keepdim=True)).float(),
        scales=group(_SCALE).exp().float(),
        opacities=torch.sigmoid(group(("opacity",))[:, 0]).float(),
        colors=(group(_COLOR) * SH_DEGREE_0 + 0.5).clamp_min(0.0).float(),
    )
    for field in fields(decoded):
        if not torch.isfinite(getattr(decoded, field.name)).all():
            raise GaussianFileError(f"{path}: {field.name} that are not finite")
    return decoded


def _read_ply_header(file: BinaryIO, path: Path) -> tuple[int, np.dtype]:
    """Number of vertices and their packed type; leaves ``file`` at the first vertex."""
    if file.readline(8).rstrip(b"\r\n") != b"ply":
        raise GaussianFileError(f"{path}: not a PLY file")
    encoding, element, count, properties = None, None, None, {}
    for _ in range(_MAX_HEADER_LINES):
        line = file.readline(1024)
        words = line.decode("ascii", errors="replace").split()
        match words:
            case ["end_header"]:
                break
            case ["format", encoding, _]:
                pass
            case ["element", element, number]:
                if count is None and element != "vertex":
                    raise GaussianFileError(f"{path}: its first element is '{element}', not 'vertex'")
                if element == "vertex":
                    if not number.isdecimal():
                        raise GaussianFileError(f"{path}: '{number}' is not a number of vertices")
                    count = int(number)
            case ["property", kind, name] if element == "vertex":
                if kind not in _PLY_TYPES or name in properties:
                    raise GaussianFileError(f"{path}: property '{name}' of type '{kind}' cannot be read")
                properties[name] = _PLY_TYPES[kind]
            case ["comment" | "obj_info" | "property", *_]:
                pass
            case _:
                raise GaussianFileError(f"{path}: malformed PLY header line {line[:40]!r}")
    else:
        raise GaussianFileError(f"{path}: PLY header without end")
    if encoding != "binary_little_endian":
        raise GaussianFileError(f"{path}: PLY format '{encoding}'; only binary_little_endian is read")
    missing = [name for name in _REQUIRED if name not in properties]
    if count is None or missing:
        raise GaussianFileError(f"{path}: no 3D Gaussians; missing {', '.join(missing) or 'vertices'}")
    return count, np.dtype(list(properties.items()))


def _write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it never stands half-written under its name."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise GaussianFileError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
