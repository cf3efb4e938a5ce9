"""Make the viewer's screenshots and the GIF of the README: a real browser, driven by mouse on ``partrm view``'s page.

From the repository root, with Chromium and the ``dev`` extra installed: ``python tools/docs/make_viewer_pictures.py``.
Writes ``docs/images/viewer_gallery.png``, ``viewer.png``, ``viewer_part.png`` and ``viewer.gif``.
"""

import argparse
import io
import math
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

from partrm.model.checkpoints import load_model
from partrm.viewer.display import REST_S
from partrm.viewer.engine import Engine
from partrm.viewer.gallery import load_examples
from partrm.viewer.geometry import FOVY_RAD, PicturePlane, overview
from partrm.viewer.server import serving
from partrm.viewer.sources import open_picture

OUT = Path("docs/images")
WINDOW = {"width": 1280, "height": 680}
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
GIF_WIDTH = 860


class Stage:
    """The page, its mouse pointer drawn into the frames."""

    def __init__(self, page):
        self.page, self.frames, self.durations_ms, self.pointer = page, [], [], (640, 340)

    def open(self, address):
        self.page.goto(f"{address}/?fixedDpr=1")  # else viser draws in fewer pixels where it draws slowly
        self.page.get_by_role("button", name="Upload a picture").wait_for()
        self.page.add_style_tag(content=".mantine-Notifications-root { display: none }")
        time.sleep(3)

    def picture(self):
        return Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")

    def still(self):
        """The page once it has stopped changing, with all Gaussians."""
        last = self.picture()
        while True:
            time.sleep(REST_S + 0.5)
            now = self.picture()
            if np.abs(np.asarray(now, dtype=int) - np.asarray(last, dtype=int)).mean() < 0.02:
                return now
            last = now

    def frame(self, duration_ms, picture=None):
        picture = self.picture() if picture is None else picture.copy()
        x, y = self.pointer
        outline = ((0, 0), (0, 20), (5, 15), (9, 23), (12, 22), (9, 14), (15, 14))
        shape = [(x + right, y + down) for right, down in outline]
        ImageDraw.Draw(picture).polygon(shape, fill="black", outline="white")
        self.frames.append(
            picture.resize((GIF_WIDTH, round(GIF_WIDTH * picture.height / picture.width)), Image.LANCZOS)
        )
        self.durations_ms.append(duration_ms)

    def move(self, place):
        self.pointer = place
        self.page.mouse.move(*place)

    def window_px(self, world, plane):
        boxes = [canvas.bounding_box() for canvas in self.page.locator("canvas").all()]
        box = max((b for b in boxes if b), key=lambda b: b["width"] * b["height"])
        place = overview(plane, box["width"] / box["height"])
        offset = np.asarray(world) - np.array(place.position)
        focal = box["height"] / 2 / math.tan(FOVY_RAD / 2)
        x, y = -focal * offset[0] / offset[2], focal * offset[1] / offset[2]
        return float(box["x"] + box["width"] / 2 + x), float(box["y"] + box["height"] / 2 + y)

    def save_gif(self, path):
        colours = self.frames[len(self.frames) // 2].quantize(128)
        frames = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in self.frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=self.durations_ms, loop=0, optimize=True)


def line(start, end, steps):
    return [tuple(a + (b - a) * i / steps for a, b in zip(start, end, strict=True)) for i in range(1, steps + 1)]


def film(stage, example, picture):
    """Draw the example's drag, let the part move, play it with the slider, turn the camera."""
    plane = PicturePlane.of(picture.rgba.shape[2], picture.rgba.shape[1])
    x0, y0, x1, y1 = example.drags_px[0]
    start, end = (stage.window_px(plane.to_world(np.array(p)), plane) for p in ((x0, y0), (x1, y1)))
    stage.move((start[0] + 60, start[1] + 90))
    stage.frame(700, stage.still())
    for place in line(stage.pointer, start, 4):
        stage.move(place)
        stage.frame(60)
    time.sleep(0.5)
    stage.page.mouse.down()
    for place in line(start, end, 8):
        stage.move(place)
        time.sleep(0.15)
        stage.frame(70)
    stage.page.mouse.up()
    stage.frame(300)
    stage.page.get_by_text("moved by").first.wait_for(timeout=180_000)
    stage.still()
    slide(stage, 0, 100, 12)
    stage.frame(700, stage.still())
    stage.still().save(OUT / "viewer.png", optimize=True)


def slide(stage, first, last, steps):
    """Move the slider by its number, so that each frame has its exact place."""
    number = stage.page.locator("input[type=text]").first
    for percent in np.linspace(first, last, steps):
        number.fill(f"{percent:.1f}")
        number.press("Enter")
        time.sleep(0.4)
        handle = stage.page.get_by_role("slider").first.bounding_box()
        stage.pointer = (handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
        stage.frame(80, stage.still())


def turn(stage, angle_px=70, steps=8):
    """Orbit the camera by a drag beside the object."""
    box = stage.page.locator("canvas").first.bounding_box()
    start = (box["x"] + 0.62 * box["width"], box["y"] + 0.9 * box["height"])
    stage.move(start)
    stage.page.mouse.down()
    for place in line(start, (start[0] - angle_px, start[1]), steps):
        stage.move(place)
        time.sleep(0.2)
        stage.frame(80)
    stage.page.mouse.up()
    stage.frame(900, stage.still())


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", default="base")
    arguments.add_argument("--example", default="Oven")
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    options = arguments.parse_args()
    engine = Engine(load_model(options.model))
    example = next(e for e in load_examples() if e.title == options.example)
    picture = open_picture(example.path, engine.size_px, example.framing, example.title)
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=options.chromium, args=FLAGS)
        page = browser.new_page(viewport=WINDOW)
        stage = Stage(page)
        with serving(None, engine, port=0) as address:
            stage.open(address)
            stage.still().save(OUT / "viewer_gallery.png", optimize=True)
        with serving(picture, engine, port=0) as address:
            stage.open(address)
            film(stage, example, picture)
            turn(stage)
            page.get_by_label("Tint the part").click()
            stage.still().save(OUT / "viewer_part.png", optimize=True)
        browser.close()
    stage.save_gif(OUT / "viewer.gif")


if __name__ == "__main__":
    main()
