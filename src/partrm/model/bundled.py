"""Where the bundled weights lie: in the package (clones), or in ``partrm-weights`` (wheels of an index)."""

from importlib import resources
from importlib.util import find_spec
from pathlib import Path

WEIGHTS_PACKAGE = "partrm_weights"
"""What the distribution ``partrm-weights`` installs: a folder a model."""


def bundled_folders() -> dict[str, Path]:
    """Checkpoint folders of the bundled models by their names; those in the package itself come first."""
    places = [Path(str(resources.files("partrm.model"))) / "weights"]
    if find_spec(WEIGHTS_PACKAGE) is not None:
        places.append(Path(str(resources.files(WEIGHTS_PACKAGE))))
    found: dict[str, Path] = {}
    for place in places:
        for config in sorted(place.glob("*/config.json")):
            found.setdefault(config.parent.name, config.parent)
    return dict(sorted(found.items()))
