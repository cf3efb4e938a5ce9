"""Gaussians and their PLY files: round trips, rigid motion, and one clear line for each broken file."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from partrm.errors import PartRMWarning
from partrm.files import OutputError
from partrm.geometry.gaussians import SH_DEGREE_0, GaussianFileError, Gaussians, load_ply, save_moved_plys, save_ply
from partrm.geometry.transforms import matrix_from_quaternion, screw_motion


def random_gaussians(n: int, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(n, 3, generator=g),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=-1),
        scales=torch.rand(n, 3, generator=g) * 0.1 + 1e-4,
        opacities=torch.rand(n, generator=g),
        colors=torch.rand(n, 3, generator=g),
    )


FIELDS = ("means", "quats", "scales", "opacities", "colors")


def assert_same(a: Gaussians, b: Gaussians, atol: float = 1e-6) -> None:
    for name in FIELDS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=atol, rtol=1e-5)


def test_ply_round_trip_and_idempotence(tmp_path):
    gaussians = random_gaussians(257)
    save_ply(gaussians, tmp_path / "a.ply")
    assert_same(load_ply(tmp_path / "a.ply"), gaussians)
    save_ply(load_ply(tmp_path / "a.ply"), tmp_path / "b.ply")
    assert_same(load_ply(tmp_path / "b.ply"), gaussians)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ply", "b.ply"]


def test_ply_round_trip_at_the_ends_of_the_ranges(tmp_path):
    ends = Gaussians(
        means=torch.tensor([[0.0, 0, 0], [1e6, -1e-6, 1]]),
        quats=torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, -1]]),
        scales=torch.tensor([[0.0, 1e-12, 1e-5], [1e3, 1, 1]]),
        opacities=torch.tensor([0.0, 1.0]),
        colors=torch.tensor([[0.0, 0, 0], [1.0, 1, 1]]),
    )
    save_ply(ends, tmp_path / "ends.ply")
    raw = np.frombuffer((tmp_path / "ends.ply").read_bytes().split(b"end_header\n")[1], "<f4")
    assert np.isfinite(raw).all()
    assert_same(load_ply(tmp_path / "ends.ply"), ends, atol=2e-6)


def test_ply_layout_is_that_of_3dgs(tmp_path):
    """Byte-level check against the format written down independently of save_ply."""
    gaussians = random_gaussians(3)
    save_ply(gaussians, tmp_path / "a.ply")
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
    names += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    expected = ["ply", "format binary_little_endian 1.0", "element vertex 3", *(f"property float {n}" for n in names)]
    assert header.decode().splitlines() == expected
    table = torch.from_numpy(np.frombuffer(body, "<f4").reshape(3, 17).copy())
    torch.testing.assert_close(table[:, 0:3], gaussians.means)
    assert (table[:, 3:6] == 0).all()
    torch.testing.assert_close(table[:, 6:9] * SH_DEGREE_0 + 0.5, gaussians.colors)
    torch.testing.assert_close(torch.sigmoid(table[:, 9]), gaussians.opacities)
    torch.testing.assert_close(table[:, 10:13].exp(), gaussians.scales)
    torch.testing.assert_close(table[:, 13:17], gaussians.quats)


def test_min_opacity_drops_and_keeps_order(tmp_path):
    gaussians = random_gaussians(100)
    save_ply(gaussians, tmp_path / "a.ply", min_opacity=0.4)
    assert_same(load_ply(tmp_path / "a.ply"), gaussians[gaussians.opacities >= 0.4])
    save_ply(gaussians, tmp_path / "none.ply", min_opacity=2.0)
    assert len(load_ply(tmp_path / "none.ply")) == 0


def test_foreign_properties_types_and_unnormalised_rotations_are_read(tmp_path):
    gaussians = random_gaussians(5)
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "f_rest_0", "f_rest_1", "opacity"]
    names += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    table = np.zeros(5, dtype=[(n, "<f8") for n in names] + [("red", "u1")])
    values = [gaussians.means, (gaussians.colors - 0.5) / SH_DEGREE_0, torch.ones(5, 2)]
    values += [torch.logit(gaussians.opacities)[:, None], gaussians.scales.log(), gaussians.quats * 7]
    for name, column in zip(names, torch.cat(values, -1).T, strict=True):
        table[name] = column.numpy()
    header = ["ply", "format binary_little_endian 1.0", "comment from elsewhere", "element vertex 5"]
    header += [f"property double {n}" for n in names] + ["property uchar red", "element camera 1", "property float fx"]
    content = "\n".join([*header, "end_header\n"]).encode() + table.tobytes() + b"\0\0\0\0"
    (tmp_path / "foreign.ply").write_bytes(content)
    assert_same(load_ply(tmp_path / "foreign.ply"), gaussians)


def broken_files(good: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "empty": (b"", "not a PLY"),
        "image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a PLY"),
        "truncated body": (good[:-1], "truncated"),
        "truncated header": (good[:60], "header"),
        "ascii": (good.replace(b"binary_little_endian", b"ascii"), "ascii"),
        "garbage header": (b"ply\n" + b"spam eggs and ham\n" * 5, "header line"),
        "endless header": (b"ply\n" + b"comment\n" * 2000, "without end"),
        "mesh": (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 0\nproperty float x\nend_header\n",
            "missing y",
        ),
        "count": (good.replace(b"vertex 9", b"vertex -9"), "number of vertices"),
        "huge count": (good.replace(b"vertex 9", b"vertex 9" + b"0" * 30), "truncated"),
        "list": (good.replace(b"property float x\n", b"property list uchar int x\n"), "list"),
        "type": (good.replace(b"property float x\n", b"property quad x\n"), "quad"),
        "not finite": (good[:-4] + np.float32(np.nan).tobytes(), "not finite"),
        "zero rotation": (good[:-16] + bytes(16), "not finite"),
    }


@pytest.mark.parametrize("kind", broken_files(b""))
def test_broken_files_give_one_clear_line(tmp_path, kind):
    save_ply(random_gaussians(9), tmp_path / "good.ply")
    content, words = broken_files((tmp_path / "good.ply").read_bytes())[kind]
    (tmp_path / "bad.ply").write_bytes(content)
    with pytest.raises(GaussianFileError, match=words) as caught:
        load_ply(tmp_path / "bad.ply")
    assert "bad.ply" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["ascii", "binary_big_endian"])
def test_files_of_other_encodings_are_read(tmp_path, encoding):
    gaussians = random_gaussians(4)
    save_ply(gaussians, tmp_path / "a.ply")
    head, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    table = np.frombuffer(body, "<f4").reshape(4, -1)
    lines = "\n".join(" ".join(repr(float(value)) for value in row) for row in table).encode()
    head = head.replace(b"binary_little_endian", encoding.encode()) + b"end_header\n"
    content = head + (lines if encoding == "ascii" else table.astype(">f4").tobytes())
    (tmp_path / "b.ply").write_bytes(content)
    assert_same(load_ply(tmp_path / "b.ply"), gaussians)
    (tmp_path / "b.ply").write_bytes(content[: content.rindex(b"\n")] if encoding == "ascii" else content[:-1])
    with pytest.raises(GaussianFileError, match="3 of 4"):
        load_ply(tmp_path / "b.ply")


def test_failed_writes_leave_nothing(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        save_ply(random_gaussians(3), tmp_path / "absent" / "a.ply")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        save_ply(random_gaussians(3), tmp_path / "folder.ply")
    bad = random_gaussians(3)
    bad.means[1, 1] = torch.nan
    with pytest.raises(ValueError, match="non-finite"):
        save_ply(bad, tmp_path / "nan.ply")
    with pytest.raises(GaussianFileError, match="cannot be read"):
        load_ply(tmp_path / "absent.ply")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.ply"]


def test_transformed_carries_covariances():
    gaussians = random_gaussians(20)
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 2, -1]), dim=0)
    T = screw_motion(axis, torch.tensor([0.3, 0, 1]), torch.tensor(0.8), torch.tensor(False))
    moved = gaussians.transformed(T)

    def covariance(g: Gaussians) -> torch.Tensor:
        M = matrix_from_quaternion(g.quats) * g.scales[:, None, :]
        return M @ M.mT

    torch.testing.assert_close(covariance(moved), T[:3, :3] @ covariance(gaussians) @ T[:3, :3].T, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(moved.means, gaussians.means @ T[:3, :3].T + T[:3, 3])


def test_activated_values_are_noticed(tmp_path, generator):
    shape = {"means": (9, 3), "quats": (9, 4), "scales": (9, 3), "opacities": (9,), "colors": (9, 3)}
    plain = Gaussians(**{name: torch.full(size, 0.01) for name, size in shape.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_ply(plain, tmp_path / "a.ply")
        load_ply(tmp_path / "a.ply")
    large = replace(plain, scales=torch.full((9, 3), 1.01), opacities=torch.full((9,), 0.6))
    save_ply(large, tmp_path / "b.ply")  # logarithm 0.01, logit 0.4: as if they were values themselves
    with pytest.warns(PartRMWarning, match=r"b\.ply: its scales look like lengths"):
        load_ply(tmp_path / "b.ply")


def test_both_states_at_once_are_the_files_of_each(tmp_path, generator):
    quats = torch.nn.functional.normalize(torch.randn(20, 4, generator=generator), dim=-1)
    means, scales = torch.randn(20, 3, generator=generator), torch.rand(20, 3, generator=generator)
    before = Gaussians(
        means, quats, scales, torch.rand(20, generator=generator), torch.rand(20, 3, generator=generator)
    )
    after = replace(before, means=means + 1, quats=quats.flip(0))
    save_moved_plys(before, tmp_path / "b.ply", after, tmp_path / "a.ply")
    for name, gaussians in (("b", before), ("a", after)):
        save_ply(gaussians, tmp_path / "alone.ply")
        assert (tmp_path / f"{name}.ply").read_bytes() == (tmp_path / "alone.ply").read_bytes()
    with pytest.raises(GaussianFileError, match="non-finite x"):
        save_moved_plys(before, tmp_path / "b.ply", replace(after, means=means / 0), tmp_path / "a.ply")
