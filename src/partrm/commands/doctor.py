"""``partrm doctor``: what is installed, what runs here, and whether a prediction comes out right."""

import importlib.metadata
import json as json_format
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from partrm import __version__
from partrm.errors import first_line
from partrm.model.bundled import bundled_folders

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DESCRIPTION = """Say what is installed, what runs here, and whether one prediction comes out right.

Versions against the bounds of this package, devices, kernels, caches with their sizes, optional extras; then golden
images are drawn on every device, and the door of a bundled picture is opened. Nothing is downloaded.

Exit code 1 if a package that is needed is missing or out of bounds, or a check fails; a missing extra is no failure.

Examples:
  partrm doctor
  partrm doctor --json > report.json
  partrm doctor --no-self-test
"""

MICROWAVE_DRAG = (164.0, 170.0, 112.0, 203.0)
MIN_UPRIGHT = 0.8
"""Least part of the door's axis along the picture's y; the camera looks down, so a true axis has some .9."""


@dataclass(frozen=True)
class Package:
    """A package that this one asks for."""

    name: str
    """On the package index."""
    wanted: str
    """Bounds on its version; empty: any."""
    version: str | None
    """Installed version; None: missing."""
    fits: bool
    """Whether it is there and within the bounds."""


@dataclass(frozen=True)
class Extra:
    """An optional group of packages."""

    name: str
    """In ``pip install 'partrm[NAME]'``."""
    packages: tuple[Package, ...]
    """What it brings on this platform."""

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return all(package.fits for package in self.packages)


@dataclass(frozen=True)
class Device:
    """Where networks can run."""

    name: str
    """For ``--device``, with an index for cards."""
    hardware: str
    """Model and size."""
    splats: str | None
    """What draws Gaussians there; None: nothing that is installed."""


@dataclass(frozen=True)
class Cache:
    """A folder that fills with use."""

    what: str
    """Whose it is."""
    folder: str
    """Where."""
    megabytes: float
    """Size on disk, MB."""


@dataclass(frozen=True)
class SelfTest:
    """One check and how it went."""

    what: str
    """What was checked."""
    ok: bool
    """Whether it came out right."""
    told: str
    """The finding, in words."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True)
class Report:
    """All that the command finds."""

    partrm: str
    """Version of this package."""
    python: str
    """Version of Python."""
    system: str
    """Operating system and processor."""
    models: tuple[str, ...]
    """Bundled weights."""
    packages: tuple[Package, ...]
    """What every install needs."""
    extras: tuple[Extra, ...]
    """Optional groups."""
    devices: tuple[Device, ...]
    """The CPU, then CUDA devices."""
    caches: tuple[Cache, ...]
    """Folders that fill with use."""
    tests: tuple[SelfTest, ...]
    """Empty when they were left out."""

    @property
    def ok(self) -> bool:
        """Whether everything that is needed is there and right."""
        return all(package.fits for package in self.packages) and all(test.ok for test in self.tests)

    def to_json(self) -> str:
        """The report as JSON, with ``ok`` first."""
        content = {"ok": self.ok, **asdict(self)}
        for extra, entry in zip(self.extras, content["extras"], strict=True):
            entry["complete"] = extra.complete
        return json_format.dumps(content, indent=2)


def doctor(json: bool = False, self_test: bool = True) -> int:
    """Say what is installed, what runs here, and whether one prediction comes out right.

    Args:
        json: print the report as JSON.
        self_test: draw golden images and make one prediction (some seconds; the first time kernels are compiled).
    """
    report = examine(self_test)
    if json:
        print(report.to_json())
    else:
        _show(report)
    return 0 if report.ok else 1


def examine(self_test: bool) -> Report:
    """Look at this installation; needed packages that are missing are told, not raised."""
    packages, extras = installed_packages()
    whole = all(package.fits for package in packages)
    return Report(
        partrm=__version__,
        python=platform.python_version(),
        system=f"{platform.platform()}, {_processors()} CPU cores",
        models=tuple(bundled_folders()),
        packages=packages,
        extras=extras,
        devices=_devices() if whole else (),
        caches=_caches() if whole else (),
        tests=_self_tests() if self_test and whole else (),
    )


def installed_packages() -> tuple[tuple[Package, ...], tuple[Extra, ...]]:
    """What this package's metadata asks for on this platform: needed, and by extra."""
    from packaging.requirements import Requirement

    metadata = importlib.metadata.metadata("partrm")
    requirements = [Requirement(text) for text in importlib.metadata.requires("partrm") or []]
    needed = tuple(_package(r) for r in requirements if _applies(r, ""))

    def of_extra(name: str) -> Iterator[Package]:
        for requirement in requirements:
            if _applies(requirement, "") or not _applies(requirement, name):
                continue
            if requirement.name == "partrm":  # an extra that builds on others
                for other in sorted(requirement.extras):
                    yield from of_extra(other)
            else:
                yield _package(requirement)

    extras = metadata.get_all("Provides-Extra") or []
    return needed, tuple(Extra(name, tuple(of_extra(name))) for name in extras)


def _applies(requirement: "Requirement", extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _package(requirement: "Requirement") -> Package:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        version = None
    fits = version is not None and requirement.specifier.contains(version, prereleases=True)
    return Package(requirement.name, str(requirement.specifier), version, fits)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices() -> tuple[Device, ...]:
    import torch

    found = [Device("cpu", f"{torch.get_num_threads()} threads", "numba kernels")]
    gsplat = find_spec("gsplat") is not None
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        built = f"compute capability {card.major}.{card.minor}, CUDA {torch.version.cuda}"
        hardware = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {built}"
        found.append(Device(f"cuda:{index}", hardware, "gsplat" if gsplat else None))
    return tuple(found)


def _caches() -> tuple[Cache, ...]:
    from huggingface_hub.constants import HF_HUB_CACHE
    from numba import config as numba_config

    kept = numba_config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
    kernels = str(kept or files("partrm.rendering") / "_cpu_splats" / "__pycache__")
    folders = {"compiled CPU kernels": kernels, "models of the Hub": HF_HUB_CACHE}
    return tuple(Cache(what, folder, _megabytes(Path(folder))) for what, folder in folders.items())


def _megabytes(folder: Path) -> float:
    """Size of what lies below a folder; 0 where there is none, or none can be."""
    if not os.path.isdir(folder):  # unlike Path's, it takes names that no disk can have
        return 0.0
    sizes = (path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return round(sum(sizes) / 1e6, 1)


def _self_tests() -> tuple[SelfTest, ...]:
    checks = {"golden images": _draw_goldens, "one prediction": _open_a_door}
    return tuple(timed(what, check) for what, check in checks.items())


def timed(what: str, check: Callable[[], tuple[bool, str]]) -> SelfTest:
    """Run one check; whatever it raises is its finding, so that the report is whole on a broken machine too."""
    start = time.perf_counter()

    def finding(ok: bool, told: str) -> SelfTest:
        return SelfTest(what, ok, told, round(time.perf_counter() - start, 2))

    try:
        return finding(*check())
    except Exception as error:
        return finding(False, f"{type(error).__name__}: {first_line(error)}")


def _draw_goldens() -> tuple[bool, str]:
    """Images and gradients of the package's golden files, on every device."""
    from partrm.paper.verify import packaged_goldens, verify_file

    checks = [check for path in packaged_goldens() for check in verify_file(path)]
    wrong = [f"{check.quantity} on {check.backend}" for check in checks if not check.ok]
    if wrong:
        return False, f"beyond their tolerance: {', '.join(wrong)}"
    return True, f"{len(checks)} quantities on {', '.join(sorted({check.backend for check in checks}))}"


def _open_a_door() -> tuple[bool, str]:
    """The joint of the bundled microwave's door, which turns about an upright axis."""
    from partrm.api import PartRM
    from partrm.geometry.joints import JointType

    image = Path(str(files("partrm") / "example_images" / "microwave.png"))
    model = PartRM.from_pretrained("base")
    prediction = model.predict(image, [MICROWAVE_DRAG], framing="canonical", ensemble=False, detail_px=0)
    upright = abs(float(prediction.joint.axis[1]))
    right = prediction.joint.type == JointType.REVOLUTE and upright > MIN_UPRIGHT
    found = f"{prediction.joint.type.name.lower()}, axis {upright:.2f} upright, on {model.device}"
    return right, found if right else f"{found}; a revolute joint about an upright axis is right"


def _show(report: Report) -> None:
    from rich.text import Text

    from partrm.commands.console import plain_console

    console = plain_console()

    def row(name: str, told: str, state: Literal["ok", "wrong", "none"] = "none") -> None:
        mark = {"ok": ("ok     ", "green"), "wrong": ("wrong  ", "red"), "none": ("       ", "")}[state]
        console.print(Text.assemble(mark, f"{name:24} {told}"))

    row("partrm", f"{report.partrm}, weights: {', '.join(report.models) or 'none'}")
    row("python", f"{report.python}, {report.system}")
    for package in report.packages:
        row(package.name, _version_in_words(package), "ok" if package.fits else "wrong")
    for device in report.devices:
        drawn = f"splats: {device.splats}" if device.splats else "splats: pip install 'partrm[cuda]'"
        row(device.name, f"{device.hardware}; {drawn}")
    for extra in report.extras:
        lacking = ", ".join(
            p.name if p.version is None else f"{p.name} {p.wanted}" for p in extra.packages if not p.fits
        )
        row(f"extra {extra.name}", "complete" if extra.complete else f"lacks {lacking}")
    for cache in report.caches:
        row(cache.what, f"{cache.megabytes:g} MB in {cache.folder}")
    for test in report.tests:
        row(test.what, f"{test.told} ({test.seconds:.1f} s)", "ok" if test.ok else "wrong")
    if not all(package.fits for package in report.packages):
        row("mend", "pip install --upgrade partrm", "wrong")


def _version_in_words(package: Package) -> str:
    if package.version is None:
        return f"missing, {package.wanted or 'any version'} is wanted"
    return package.version if package.fits else f"{package.version}, {package.wanted} is wanted"
