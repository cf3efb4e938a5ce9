"""What can be taken from the page, as bytes: Gaussians, video, picture, description, a page of its own, all in one."""

import contextlib
import io
import json
import math
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from partrm.assets.export import export_prediction
from partrm.errors import PartRMError
from partrm.geometry.cameras import ABSENT_FOVY_RAD, canonical_orbit
from partrm.geometry.gaussians import save_ply
from partrm.inference.prediction import (
    DEFAULT_VIEWS,
    VIEW_PX,
    Prediction,
    before_after,
    describe,
    picture_view,
    save_motion,
    save_prediction,
)
from partrm.viewer.display import MovableGaussians, ObjectDisplay, light_evenly
from partrm.viewer.geometry import DISTANCE, FOVY_RAD
from partrm.viewer.security import LocalServer

HTML_FRAMES = 48
"""Poses of the moving part in the self-contained page, there and back."""

HTML_FRAME_S = 0.05

WORKERS_FROM_DISK = """<script>
if (location.protocol === "file:") {
  const Native = window.Worker;
  window.Worker = function (url, options) {
    if (String(url).startsWith("blob:")) {
      const request = new XMLHttpRequest();
      request.open("GET", url, false);
      request.send();
      const bytes = new TextEncoder().encode(request.responseText);
      url = "data:text/javascript;base64," + btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
    }
    return new Native(url, options);
  };
}
</script>"""
"""viser sorts splats in a module worker made of a blob, which Chromium does not run in a page opened from disk, where
splats would then be drawn in the wrong order; it runs one given as a data: URL."""


class ExportError(PartRMError):
    """Something that cannot be taken from the page yet; the message says why."""


@dataclass(frozen=True)
class Result:
    """What exports are made from."""

    shown: MovableGaussians
    prediction: Prediction | None
    """None for Gaussians that were not predicted on this page."""

    @property
    def predicted(self) -> Prediction:
        """The prediction.

        Raises:
            ExportError: there is none.
        """
        if self.prediction is None:
            raise ExportError("this needs a prediction: open a picture and draw a drag on it")
        return self.prediction


def export(kind: str, result: Result) -> tuple[str, bytes]:
    """File name and content of an export of one of :data:`KINDS`."""
    name, make = KINDS[kind]
    return name, make(result)


def _ply(result: Result, fraction: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gaussians.ply"
        save_ply(result.shown.at(fraction), path)
        return path.read_bytes()


def _video(result: Result) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "motion.mp4"
        save_motion(result.predicted, picture_view(result.predicted.source)[1], path)
        return path.read_bytes()


def _picture(result: Result) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(before_after(result.predicted)).save(buffer, "PNG")
    return buffer.getvalue()


def _description(result: Result) -> bytes:
    prediction = result.predicted
    content = describe(prediction, canonical_orbit(DEFAULT_VIEWS, VIEW_PX, fovy_rad=ABSENT_FOVY_RAD))
    content |= {"timings_s": prediction.timings_s}
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _everything(result: Result) -> bytes:
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        out = Path(folder) / "prediction"
        save_prediction(result.predicted, out)
        _archive(archive, Path(folder))
    return buffer.getvalue()


def _asset(result: Result) -> bytes:
    predicted = result.predicted.to_predicted()
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        export_prediction(predicted, Path(folder) / "asset")
        _archive(archive, Path(folder))
    return buffer.getvalue()


def _archive(archive: zipfile.ZipFile, folder: Path) -> None:
    """Put all files below a folder into an archive."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        archive.write(path, path.relative_to(folder))


def page(result: Result) -> bytes:
    """A self-contained HTML page: the object in 3D and its motion as a recording, without a server or network."""
    with contextlib.redirect_stdout(io.StringIO()):
        server = LocalServer(host="127.0.0.1", port=0, verbose=False)
        try:
            server.scene.set_up_direction("+y")
            server.initial_camera.position = (0.0, 0.0, DISTANCE)
            server.initial_camera.look_at = (0.0, 0.0, 0.0)
            server.initial_camera.fov = FOVY_RAD
            server.scene.set_background_image(np.full((4, 4, 3), 255, dtype=np.uint8))
            light_evenly(server.scene)
            serializer = server.get_scene_serializer()
            display = ObjectDisplay(server.scene)
            display.show(result.shown)
            if result.shown.joint is not None:
                for frame in range(HTML_FRAMES):
                    display.set_fraction((1 - math.cos(2 * math.pi * frame / HTML_FRAMES)) / 2)
                    serializer.insert_sleep(HTML_FRAME_S)
            html = serializer.as_html()
        finally:
            server.stop()
    first_script = html.index("<script")
    return (html[:first_script] + WORKERS_FROM_DISK + html[first_script:]).encode()


KINDS: dict[str, tuple[str, Callable[[Result], bytes]]] = {
    "Gaussians after (PLY)": ("gaussians.ply", lambda result: _ply(result, 1.0)),
    "Gaussians before (PLY)": ("gaussians_before.ply", lambda result: _ply(result, 0.0)),
    "Video (MP4)": ("motion.mp4", _video),
    "Picture (PNG)": ("before_after.png", _picture),
    "Description (prediction.json)": ("prediction.json", _description),
    "3D page (HTML, works offline)": ("partrm.html", page),
    "Asset for simulators (ZIP)": ("asset.zip", _asset),
    "Everything (ZIP)": ("prediction.zip", _everything),
}
"""What the page offers, in its order: file name and how it is made."""
