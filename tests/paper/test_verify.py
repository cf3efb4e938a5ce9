"""Golden files: the good one passes on this machine, a changed one fails, a broken one gives one clear line."""

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.splat_oracle import golden_arrays

from partrm.geometry.cameras import Cameras
from partrm.paper.verify import GoldenFileError, load_splat_golden, packaged_goldens, verify_file, verify_splats

GOLDEN = Path(__file__).parents[1] / "golden" / "splat_a.npz"


def test_golden_passes_and_names_every_quantity():
    checks = verify_file(GOLDEN)
    assert all(check.ok for check in checks)
    gradients = [f"gradient of {name}" for name in ("means", "opacities", "scales", "quats", "colors")]
    assert [check.quantity for check in checks if check.backend == "cpu"] == ["image", "alpha", *gradients]


@pytest.mark.parametrize("path", packaged_goldens(), ids=lambda path: path.stem)
def test_packaged_goldens_are_what_brute_force_makes(path):
    golden = load_splat_golden(path)
    height, width = golden.image.shape[-2:]
    fovy_rad = torch.deg2rad(golden.fovy_deg).expand(len(golden.c2w_opencv))
    cameras = Cameras(golden.c2w_opencv, fovy_rad, width, height)
    expected = golden_arrays(golden.gaussians, cameras, golden.v_image, golden.v_alpha)
    for name in ("image", "alpha", "background"):
        np.testing.assert_allclose(getattr(golden, name), expected[name], atol=1e-5)
    error = golden.grad_gaussians.numpy() - expected["grad_gaussians"]
    assert np.linalg.norm(error) < 1e-5 * np.linalg.norm(expected["grad_gaussians"])


def test_packaged_goldens_are_two_and_small_and_pass():
    assert len(packaged_goldens()) == 2
    assert sum(path.stat().st_size for path in packaged_goldens()) <= 200 * 2**10
    assert all(check.ok for path in packaged_goldens() for check in verify_file(path, "cpu"))


def test_a_changed_golden_fails_where_it_was_changed():
    golden = load_splat_golden(GOLDEN)
    image, grad = golden.image.clone(), golden.grad_gaussians.clone()
    image[0, 0, 0, 0] += 0.1
    grad[:, 3] *= 1.05
    checks = verify_splats(replace(golden, image=image, grad_gaussians=grad), "cpu", "cpu")
    assert [check.quantity for check in checks if not check.ok] == ["image", "gradient of opacities"]


def test_broken_files_give_one_clear_line(tmp_path):
    arrays = dict(np.load(GOLDEN))
    good = GOLDEN.read_bytes()
    np.savez(tmp_path / "lacking.npz", **{k: v for k, v in arrays.items() if k != "alpha"})
    np.savez(tmp_path / "misshapen.npz", **{**arrays, "alpha": arrays["alpha"][:, 0]})
    np.savez(tmp_path / "scalar.npz", **{**arrays, "gaussians": np.float32(1)})
    np.savez(tmp_path / "nan.npz", **{**arrays, "image": arrays["image"] * np.nan})
    np.savez(tmp_path / "words.npz", **{**arrays, "image": np.array(["a"])})
    np.save(tmp_path / "array.npy", arrays["image"])
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "cut.npz").write_bytes(good[: len(good) // 2])
    (tmp_path / "flipped.npz").write_bytes(good[:5000] + bytes(200) + good[5200:])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "network.safetensors").write_bytes(b"")
    (tmp_path / "picture.png").write_bytes(b"")
    paths = [*tmp_path.iterdir(), tmp_path / "absent.npz", tmp_path]
    assert len(paths) == 14
    for path in paths:
        with pytest.raises(GoldenFileError) as caught:
            verify_file(path)
        assert str(caught.value).startswith(f"{path}: "), path
        assert "\n" not in str(caught.value), path


@pytest.mark.gpu
def test_golden_passes_on_cuda_alone():
    checks = verify_file(GOLDEN, "cuda")
    assert {check.backend for check in checks} == {"gsplat"}
    assert all(check.ok for check in checks), checks


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_absent_is_refused():
    with pytest.raises(ValueError, match="no CUDA device"):
        verify_file(GOLDEN, "cuda")


@pytest.mark.parametrize(("kind", "words"), [(complex, "an array of complex128"), (np.float64, "is not finite")])
def test_arrays_of_other_kinds_are_told_without_a_warning(kind, words, tmp_path):
    with np.load(packaged_goldens()[0]) as file:
        arrays = dict(file)
    np.savez(tmp_path / "a.npz", **arrays | {"gaussians": arrays["gaussians"].astype(kind) * 0 + kind(1e300)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(GoldenFileError, match=words):
            load_splat_golden(tmp_path / "a.npz")


def test_an_entry_that_is_no_array_is_told(tmp_path):
    """numpy then gives the bytes."""
    with zipfile.ZipFile(packaged_goldens()[0]) as archive, zipfile.ZipFile(tmp_path / "a.npz", "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, b"" if name == "gaussians.npy" else archive.read(name))
    with pytest.raises(GoldenFileError, match=r"a\.npz: cannot be read"):
        load_splat_golden(tmp_path / "a.npz")
