"""The vertices of PLY files as a table: Gaussians, point clouds."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float

from partrm.errors import PartRMError
from partrm.files import read_bytes

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
MAX_HEADER_LINES = 1000
MAX_BYTES = 2**33


class PlyError(PartRMError):
    """A PLY file that cannot be read; the message says which and why."""


def ply_content(names: Sequence[str], vertices: Float[np.ndarray, "n columns"]) -> tuple[bytes, memoryview]:
    """Header and vertices of a PLY file (binary little endian) whose vertices have columns of these names, float32."""
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    rows = np.ascontiguousarray(vertices, "<f4")
    return "\n".join(header).encode("ascii"), rows.view(np.uint8).reshape(-1).data


def read_vertices(path: Path) -> np.ndarray:
    """The vertices of a PLY file, binary or ASCII: a structured array with a field for each property.

    Raises:
        PlyError: missing, truncated or foreign file, or one whose vertices are not its first element or hold lists.
    """
    try:
        file = BytesIO(read_bytes(path, MAX_BYTES))
        count, dtype, text = _read_header(file, path)
        content = file.read() if text else file.read(min(count * dtype.itemsize, file.getbuffer().nbytes))
    except OSError as error:
        raise PlyError(f"{path}: cannot be read ({error.strerror})") from error
    if text:
        try:
            rows = [tuple(line.split()) for line in content.decode("ascii").splitlines()[:count]]
            vertices = np.array(rows, dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise PlyError(f"{path}: an ascii vertex cannot be read ({error})") from error
    else:
        vertices = np.frombuffer(content, dtype, min(count, len(content) // dtype.itemsize))
    if len(vertices) < count:
        raise PlyError(f"{path}: truncated ({len(vertices)} of {count} vertices)")
    return vertices


def _read_header(file: BytesIO, path: Path) -> tuple[int, np.dtype, bool]:
    """Number of vertices, their packed type, and whether they are text; leaves ``file`` at the first vertex."""
    if file.readline(8).rstrip(b"\r\n") != b"ply":
        raise PlyError(f"{path}: not a PLY file")
    encoding, element, count, properties = "", "", None, {}
    for _ in range(MAX_HEADER_LINES):
        line = file.readline(1024)
        match line.decode("ascii", errors="replace").split():
            case ["end_header"]:
                break
            case ["format", encoding, _]:
                pass
            case ["element", element, number]:
                if count is None and element != "vertex":
                    raise PlyError(f"{path}: its first element is '{element}', not 'vertex'")
                if element == "vertex":
                    if not (number.isascii() and number.isdecimal() and len(number) < 100):
                        raise PlyError(f"{path}: '{number}' is not a number of vertices")
                    count = int(number)
            case ["property", *kind, name] if element == "vertex":
                if len(kind) != 1 or kind[0] not in TYPES or name in properties:
                    raise PlyError(f"{path}: property '{name}' of type '{' '.join(kind)}' cannot be read")
                properties[name] = TYPES[kind[0]]
            case ["comment" | "obj_info" | "property", *_]:
                pass
            case _:
                raise PlyError(f"{path}: malformed PLY header line {line[:40]!r}")
    else:
        raise PlyError(f"{path}: PLY header without end")
    if encoding not in BYTE_ORDERS:
        raise PlyError(f"{path}: PLY format '{encoding}'; give one of {', '.join(BYTE_ORDERS)}")
    if count is None or not properties:
        raise PlyError(f"{path}: holds no vertices")
    order = BYTE_ORDERS[encoding]
    return count, np.dtype([(name, order + kind) for name, kind in properties.items()]), encoding == "ascii"
