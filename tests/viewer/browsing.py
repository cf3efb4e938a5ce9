"""A headless browser on the viewer's page: where world points are on the screen, and what the screen shows."""

import base64
import io
import math
import time
from pathlib import Path

import numpy as np
from PIL import Image

from partrm.viewer.geometry import FOVY_RAD, CameraPlace

CHROMIUM = next((p for p in (Path("/usr/bin/chromium"), Path("/usr/bin/chromium-browser")) if p.exists()), None)

FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    # The page around the 3D view is drawn by the processor itself, not by its stand-in for a GPU.
    "--disable-gpu-compositing",
    "--disable-gpu-rasterization",
)


COUNT_DRAWS = """
window.frames_drawn = window.splats_drawn = 0;
const draw = WebGL2RenderingContext.prototype.drawElementsInstanced;
WebGL2RenderingContext.prototype.drawElementsInstanced = function (...values) {
    if (values[4] > 100 && this.drawingBufferWidth > 50) {
        window.frames_drawn += 1;
        window.splats_drawn = values[4];
    }
    return draw.apply(this, values);
};
"""
"""The splats are the only thing that is drawn in hundreds of instances, once a frame."""

CANVAS_BOX = """() => {
    const boxes = [...document.querySelectorAll("canvas")].map((canvas) => canvas.getBoundingClientRect());
    const box = boxes.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a));
    return [box.x, box.y, box.width, box.height];
}"""

PANEL_LEFT = """() => {
    const buttons = [...document.querySelectorAll("button")];
    return buttons.find((button) => button.textContent === "Upload a picture").getBoundingClientRect().x - 12;
}"""


class Tab:
    """One page; coordinates are window pixels.

    Args:
        pixel_ratio: pixels of the 3D view for each of the window, kept fixed: left alone (None), viser draws in fewer
            when frames take long, and shots taken before and after that differ.
    """

    def __init__(self, context, address, pixel_ratio=0.5):
        self.page = context.new_page()
        self._devtools = context.new_cdp_session(self.page)
        self.address, self._query = address, "" if pixel_ratio is None else f"/?fixedDpr={pixel_ratio}"
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.open()

    def open(self):
        self.page.goto(self.address + self._query)
        self.page.wait_for_selector("canvas", timeout=60_000)
        self.page.get_by_role("button", name="Upload a picture").wait_for(timeout=60_000)
        time.sleep(1.0)  # the docked panel slides in and the canvas takes its new width
        self.dismiss()

    def canvas(self):
        """Left, top, width, height of the 3D view."""
        return self.page.evaluate(CANVAS_BOX)

    @property
    def aspect(self):
        _, _, width, height = self.canvas()
        return width / height

    def at(self, world, place: CameraPlace):
        """Window pixel of a world point seen from an upright camera place that looks along -z."""
        left, top, width, height = self.canvas()
        eye = np.array(place.position)
        assert np.allclose(eye[:2], place.look_at[:2])
        offset = np.asarray(world, dtype=float) - eye
        focal = height / 2 / math.tan(FOVY_RAD / 2)
        return left + width / 2 - focal * offset[0] / offset[2], top + height / 2 + focal * offset[1] / offset[2]

    def dismiss(self):
        """Close the notices, which lie over the 3D view; some go by themselves, so none is waited for."""
        close = "document.querySelectorAll('.mantine-Notification-closeButton')"
        self.page.evaluate(f"{close}.forEach((button) => button.click())")
        self.page.wait_for_function(f"{close}.length === 0")

    def drag(self, start, end, steps=6):
        """A left drag with real mouse events."""
        mouse = self.page.mouse
        mouse.move(*start)
        time.sleep(0.3)  # viser picks what lies under the pointer once it rests there
        mouse.down()
        for step in range(1, steps + 1):
            mouse.move(*(a + (b - a) * step / steps for a, b in zip(start, end, strict=True)))
            time.sleep(0.05)
        mouse.up()

    def shot(self):
        """The 3D view left of the panel as floats in [0, 1], [h, w, 3], a pixel for each of the window."""
        left, top, width, height = self.canvas()
        width = min(width, self.page.evaluate(PANEL_LEFT) - left)
        clip = {"x": left, "y": top, "width": width, "height": height, "scale": 1}
        # Playwright's own screenshots take three times as long: they wait for fonts and draw the page at another scale.
        answer = self._devtools.send("Page.captureScreenshot", {"clip": clip, "optimizeForSpeed": True})
        image = Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")
        return np.asarray(image.resize((round(width), round(height)), Image.NEAREST), dtype=np.float64) / 255

    def says(self, text, timeout_s=60.0):
        """Wait until the page shows a text."""
        self.page.get_by_text(text).first.wait_for(timeout=1000 * timeout_s)

    def changes(self, before, least=0.002, timeout_s=40.0):
        """Wait until the 3D view differs from an earlier shot by that mean; the new shot."""
        return self.shows(lambda now: now.shape == before.shape and np.abs(now - before).mean() > least, timeout_s)

    def shows(self, what, timeout_s=40.0):
        """Wait until ``what`` holds for the 3D view; the shot."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            now = self.shot()
            if what(now):
                return now
            time.sleep(0.2)
        raise AssertionError("the page does not show what was expected")

    def settles(self, timeout_s=40.0):
        """Wait until the 3D view stands still; the shot."""
        last, until = self.shot(), time.monotonic() + timeout_s
        while time.monotonic() < until:
            time.sleep(0.35)
            now = self.shot()
            if now.shape == last.shape and np.abs(now - last).mean() < 1e-4:
                return now
            last = now
        raise AssertionError("the page does not stand still")

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def choose(self, label, option):
        """Pick an entry of the list that carries a label, once the list has unfolded and folded away."""
        entry = self.page.get_by_role("option", name=option, exact=True)
        self.page.get_by_label(label, exact=True).click()
        entry.click()
        entry.wait_for(state="hidden")

    def close(self):
        self.page.close()
