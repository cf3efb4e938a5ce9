"""PartRM: part-level dynamics of articulated objects from images and drags.

Example::

    from partrm import PartRM
    prediction = PartRM.from_pretrained("base").predict("photo.jpg", [(812, 640, 700, 655)])
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partrm.api import PartRM
    from partrm.errors import PartRMError
    from partrm.geometry.cameras import Cameras
    from partrm.geometry.gaussians import Gaussians, load_ply, save_ply
    from partrm.geometry.joints import JointMotion
    from partrm.inference.batch import Job
    from partrm.inference.prediction import Prediction
    from partrm.objects.mjcf import load_mjcf
    from partrm.objects.urdf import load_urdf

__version__ = "0.2.0"

__all__ = [
    "Cameras",
    "Gaussians",
    "Job",
    "JointMotion",
    "PartRM",
    "PartRMError",
    "Prediction",
    "__version__",
    "load_mjcf",
    "load_ply",
    "load_urdf",
    "save_ply",
]

_HOMES = {
    "Cameras": "partrm.geometry.cameras",
    "Gaussians": "partrm.geometry.gaussians",
    "Job": "partrm.inference.batch",
    "JointMotion": "partrm.geometry.joints",
    "PartRM": "partrm.api",
    "PartRMError": "partrm.errors",
    "Prediction": "partrm.inference.prediction",
    "load_mjcf": "partrm.objects.mjcf",
    "load_ply": "partrm.geometry.gaussians",
    "load_urdf": "partrm.objects.urdf",
    "save_ply": "partrm.geometry.gaussians",
}


def __getattr__(name: str) -> Any:
    """A public name, loaded when it is first used: ``--version`` and ``--help`` need no torch (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
