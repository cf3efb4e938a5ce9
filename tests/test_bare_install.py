"""The wheels, that of the code built from its sdist: every help text, every missing extra by its name, one prediction.

The dependencies are the runtime ones alone, those of the environment that runs the tests, linked one by one into a new
one: nothing is fetched, and what only an extra brings is really absent. ``PARTRM_BARE_PYTHON=venv/bin/python`` takes an
environment in which the wheels were installed already, of whatever Python.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest
from dist import build_all

from partrm.cli import COMMANDS
from partrm.geometry.cameras import canonical_orbit, save_cameras
from partrm.model.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "src" / "partrm" / "model" / "weights"
MICROWAVE = str(files("partrm") / "example_images" / "microwave.png")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def plain_name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0].lower().replace("_", "-")


def runtime_distributions() -> dict[str, object]:
    """Distributions that the package needs, and those that they need, as far as they are installed."""
    found, todo = {}, [plain_name(d) for d in project()["dependencies"]]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform
        needed = [r for r in found[name].requires or [] if "extra ==" not in r]
        todo += [plain_name(r) for r in needed]
    return found


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Folder of the wheels and the sdist."""
    root = tmp_path_factory.mktemp("packages")
    build_all(ROOT, root, ["--no-isolation", "--skip-dependency-check"])
    return root


@pytest.fixture(scope="module")
def bare(request, tmp_path_factory):
    """Python of an environment with the built wheels and the runtime dependencies."""
    if there := os.environ.get("PARTRM_BARE_PYTHON"):
        return Path(there).absolute()
    wheels = request.getfixturevalue("packages").glob("*.whl")
    root = tmp_path_factory.mktemp("bare")
    venv.create(root / "venv", with_pip=False, symlinks=True)
    python = root / "venv" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.run([str(python), "-c", where], check=True, capture_output=True, text=True).stdout.strip())
    link_distributions(site)
    target = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps", "--no-index", "--target"]
    subprocess.run([*target, str(site), *map(str, wheels)], check=True, timeout=300)
    bring_kernels(site)
    return python


def bring_kernels(site: Path) -> None:
    """What numba has compiled of these sources, known by their dates: to do it again takes longer than all tests."""
    for source in (ROOT / "src").rglob("*.py"):
        installed, known = site / source.relative_to(ROOT / "src"), source.stat()
        os.utime(installed, ns=(known.st_atime_ns, known.st_mtime_ns))
    for kernel in (ROOT / "src").rglob("__pycache__/*.nb[ic]"):
        target = site / kernel.relative_to(ROOT / "src")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(kernel, target)


def link_distributions(site: Path) -> None:
    libraries = {Path(sysconfig.get_paths()[key]) for key in ("purelib", "platlib")}
    for found in runtime_distributions().values():
        for file in found.files or []:  # pyright: ignore[reportAttributeAccessIssue]
            top = file.parts[0]
            sources = [library / top for library in libraries if (library / top).exists()]
            if top in ("..", "__pycache__") or not sources or (site / top).exists():
                continue
            (site / top).symlink_to(sources[0])


RUN_ALL = """
import contextlib, io, json, sys
from partrm.cli import main
from partrm.inference import prediction

prediction.PICTURE_PX = 96  # for time
done = []
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
    done.append((arguments, code or 0, out.getvalue(), err.getvalue()))
print(json.dumps(done))
"""


HELPS = [[*command.split(), "--help"] for command in (*sorted(COMMANDS), "data build", "data check", "data show")]


def wanting(folder: Path) -> list[tuple[str, list[str]]]:
    """Extras, and commands that miss them."""
    (folder / "cabinet.urdf").write_text("<robot name='x'/>")
    out = str(folder / "out")
    image = [MICROWAVE, "--drag", "164,170,112,203", "--framing", "canonical", "--out", out]
    return [
        ("train", ["train", "--pool", "pool.npz", "--out", out]),
        ("data", ["data", "build", "procedural", "--limit", "1", "--out", out]),
        ("data", ["view", str(folder / "cabinet.urdf"), "--port", "0"]),
        ("data", ["eval", "--data", "procedural", "--limit", "1", "--device", "cpu", "--out", out]),
        ("export", ["export", *image]),
        ("zero123", ["predict", *image, "--multiview", "zero123"]),
        ("sam", ["predict", *image, "--propagate", "sam"]),
    ]


@pytest.fixture(scope="module")
def done(bare, tmp_path_factory) -> SimpleNamespace:
    """What the commands said, all in one process that imports PyTorch once, and the folder of the prediction."""
    folder = tmp_path_factory.mktemp("commands")
    predicted = folder / "predicted"
    predict = ["predict", MICROWAVE, "--drag", "164,170,112,203", "--framing", "canonical", "--device", "cpu"]
    save_cameras(canonical_orbit(2, 128), folder / "cameras.json")
    predict += ["--detail", "0", "--cameras", str(folder / "cameras.json"), "--out", str(predicted)]
    missing = wanting(folder)
    last = [["doctor", "--json", "--no-self-test"], ["verify"], predict]
    told = json.dumps([*HELPS, *(words for _, words in missing), *last])
    shown = subprocess.run(
        [str(bare), "-I", "-c", RUN_ALL], input=told, capture_output=True, text=True, timeout=300, cwd=folder
    )
    assert shown.returncode == 0, shown.stderr
    rows = [subprocess.CompletedProcess(*row) for row in json.loads(shown.stdout)]
    helps, rest = rows[: len(HELPS)], rows[len(HELPS) :]
    wanted = list(zip((extra for extra, _ in missing), rest, strict=False))
    doctor, verified, prediction = rest[len(missing) :]
    return SimpleNamespace(
        helps=helps, wanting=wanted, doctor=doctor, verified=verified, prediction=prediction, folder=predicted
    )


def test_what_the_extras_bring_is_not_there_and_types_are(bare):
    names = ("accelerate", "warp", "ray", "mujoco", "yourdfpy", "diffusers", "transformers")
    code = (
        "from importlib.util import find_spec; from importlib.resources import files; import partrm;"
        f"print([n for n in {names} if find_spec(n)], (files('partrm') / 'py.typed').is_file(), partrm.__file__)"
    )
    shown = subprocess.run([str(bare), "-I", "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("[] True ")
    assert str(bare.parents[1]) in shown.stdout


def test_every_help(done):
    assert len(done.helps) == len(HELPS)
    for shown in done.helps:
        assert shown.returncode == 0, shown.stderr
        assert f"usage: partrm {' '.join(shown.args[:-1])}" in shown.stdout


def test_commands_name_the_extra_that_they_miss(done):
    for extra, failed in done.wanting:
        assert failed.returncode == 1, (failed.args, failed.stdout, failed.stderr)
        assert f"pip install 'partrm[{extra}]'" in failed.stderr.strip().splitlines()[-1]
        assert "Traceback" not in failed.stderr


MAX_CODE_MB, MAX_WEIGHTS_MB = 1.5, 70
"""Of wheel and sdist of the code each, and of the wheel of the weights."""


def test_sdist_and_wheel_hold_the_package_and_no_tests(packages):
    (wheel,), (sdist,) = packages.glob("partrm-*.whl"), packages.glob("partrm-*.tar.gz")
    assert max(wheel.stat().st_size, sdist.stat().st_size) < MAX_CODE_MB * 1e6
    with zipfile.ZipFile(wheel) as archive:
        wheel_names = archive.namelist()
    with tarfile.open(sdist) as archive:
        sdist_names = archive.getnames()
    for name in ("LICENSE", "THIRD_PARTY_LICENSES.md"):
        assert any(n.endswith(f"dist-info/licenses/{name}") for n in wheel_names), name
        assert any(n.endswith(f"/{name}") for n in sdist_names), name
    sources = {str(p.relative_to(ROOT / "src")) for p in (ROOT / "src").rglob("*.py")}
    assert sources <= set(wheel_names)
    assert not [n for n in (*wheel_names, *sdist_names) if "tests/" in n or "__pycache__" in n]


def test_the_weights_are_a_package_that_the_code_asks_for(packages):
    (wheel,), (code,) = packages.glob("partrm_weights-*.whl"), packages.glob("partrm-*.whl")
    assert wheel.stat().st_size < MAX_WEIGHTS_MB * 1e6
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if "dist-info" not in name}
    shipped = {f"partrm_weights/{p.relative_to(WEIGHTS)}": p.read_bytes() for p in WEIGHTS.glob("*/*")}
    held.pop("partrm_weights/__init__.py")
    assert held == shipped
    with zipfile.ZipFile(code) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        asked = archive.read(metadata).decode()
    version = wheel.name.split("-")[1]
    assert f"Requires-Dist: partrm-weights=={version}\n" in asked


def test_new_weights_have_a_new_version():
    """The hash stands beside the version: whoever changes one reads the other."""
    recorded = tomllib.loads((ROOT / "weights" / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["partrm"]
    _, _, found = read_checkpoint(WEIGHTS / "base")
    assert found == recorded["hash"], "raise `version` in weights/pyproject.toml, then write the new hash there"


def test_a_clone_installs_with_its_weights_and_asks_for_no_package_of_them(tmp_path):
    """What `pip install .` builds, short of packing it."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY_LICENSES.md", "MANIFEST.in"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "src").symlink_to(ROOT / "src")
    words = ["-q", "egg_info", "-e", "info", "build_py", "-d", "built"]
    code = f"from setuptools import setup; setup(script_args={words})"
    (tmp_path / "info").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=100)
    built = tmp_path / "built" / "partrm" / "model" / "weights"
    assert {p.relative_to(built) for p in built.glob("*/*")} == {p.relative_to(WEIGHTS) for p in WEIGHTS.glob("*/*")}
    assert "partrm-weights" not in (tmp_path / "info" / "partrm.egg-info" / "requires.txt").read_text()


def test_doctor_finds_the_bare_install_whole(done):
    content = json.loads(done.doctor.stdout)
    assert done.doctor.returncode == 0, content
    complete = {extra["name"]: extra["complete"] for extra in content["extras"]}
    assert not complete["train"]
    assert not complete["ray"]
    assert content["models"] == ["base"]


def test_verify_and_predict_run(done):
    assert done.verified.returncode == 0, done.verified.stderr
    assert done.prediction.returncode == 0, done.prediction.stderr
    joint = json.loads((done.folder / "prediction.json").read_text())["joint"]
    assert joint["type"] == "revolute"
    assert (done.folder / "motion.mp4").stat().st_size > 0
    assert len(list((done.folder / "views").iterdir())) == 2
