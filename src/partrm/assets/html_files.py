"""Assets as one HTML page that works offline: the GLB in three.js, with a slider for each joint."""

import base64
import html
import io
import json
import re
import zipfile
from importlib.resources import files
from pathlib import Path

from partrm.assets.asset import Asset
from partrm.assets.glb_files import SECONDS, to_glb
from partrm.assets.part_meshes import missing
from partrm.assets.predicted import AssetError
from partrm.files import atomic_write

TEMPLATE = "page.html"

SCRIPT = re.compile(r"<script>(.*?)var camera,controls,scene", re.DOTALL)
"""In the template of trimesh's notebook viewer: three.js with its glTF loader (MIT), then the viewer's own lines."""


def save_html(asset: Asset, path: Path) -> None:
    """Write ``path`` (.html), which holds all that it shows and asks nothing of the network.

    Raises:
        PackageMissingError: trimesh is missing.
        AssetError: the trimesh that is installed holds no three.js where it is looked for.
    """
    joints = [
        {"part": part.name, "type": joint.type.name.lower(), "axis": list(joint.axis),
         "lower": joint.lower, "upper": joint.upper}
        for part in sorted(asset.object.parts, key=lambda part: (len(part.name), part.name))
        if (joint := part.joint) is not None
    ]  # fmt: skip
    content = {
        "TITLE": html.escape(asset.object.name),
        "THREE": three_js(),
        # Within a script element nothing but </script> ends it.
        "JOINTS": json.dumps(joints, allow_nan=False).replace("<", "\\u003c"),
        "SECONDS": str(SECONDS),
        "GLB": base64.b64encode(to_glb(asset)).decode("ascii"),
    }
    page = (files("partrm.assets") / TEMPLATE).read_text(encoding="utf-8")
    atomic_write(path, re.sub(r"\{\{([A-Z]+)\}\}", lambda found: content[found[1]], page))


def three_js() -> str:
    """The script that defines ``THREE`` and ``THREE.GLTFLoader``, out of the installed trimesh.

    Raises:
        as :func:`save_html`.
    """
    try:
        import trimesh
        from trimesh import resources
    except ImportError as error:
        raise missing("trimesh") from error
    with zipfile.ZipFile(io.BytesIO(resources.get_bytes("templates/viewer.zip"))) as archive:
        found = SCRIPT.search(archive.read("viewer.html.template").decode("utf-8"))
    if found is None or "THREE.GLTFLoader" not in found[1]:
        raise AssetError(f"trimesh {trimesh.__version__} holds no three.js for the page: install trimesh 4.5 to 5.2")
    return found[1]
