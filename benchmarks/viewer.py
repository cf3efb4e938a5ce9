"""Measure the viewer in a headless Chromium: ``python benchmarks/viewer.py [--model base] [--drags 200]``.

Prints the time from the release of a drag to the splats sent (as the page shows it) and to changed pixels on the page,
how often a second the slider's values reach the server while the mouse pulls it (viser's page sends at most 20), how
many frames a second the page draws meanwhile (each shows the newest pose) and while the motion plays, and the memory of
the server before and after many drags. The browser draws in software here and shares the cores with the server: the
figures with pixels include its work. ``--all-gaussians`` switches the few Gaussians off that stand in during a motion
on a page that draws slowly.
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import sync_playwright

from partrm.model.checkpoints import load_model
from partrm.viewer.display import ObjectDisplay
from partrm.viewer.engine import Engine
from partrm.viewer.frame_rate import Pace
from partrm.viewer.gallery import load_examples
from partrm.viewer.geometry import PicturePlane, overview
from partrm.viewer.server import serving
from partrm.viewer.sources import open_picture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viewer"))
from browsing import CHROMIUM, COUNT_DRAWS, FLAGS, Tab

MOVES_PER_S = 30
"""Of the mouse on the slider."""


def frames_drawn(tab):
    return tab.page.evaluate("window.frames_drawn")


def playing_rate(tab, seconds=5.0):
    """Frames that the page draws a second while the motion plays (the server sends 30 poses a second)."""
    tab.press("Play")
    time.sleep(1.5)
    before, started = frames_drawn(tab), time.perf_counter()
    time.sleep(seconds)
    rate = (frames_drawn(tab) - before) / (time.perf_counter() - started)
    tab.press("Pause")
    return rate


def release_to_pixels(tab, picture, drag):
    """Seconds from the release of a drag to a changed 3D view; the picture's own arrow does not count."""
    plane = PicturePlane.of(picture.rgba.shape[2], picture.rgba.shape[1])
    ends = [tab.at(plane.to_world(np.array(p)), overview(plane, tab.aspect)) for p in (drag[:2], drag[2:])]
    tab.press("Clear")
    before = tab.settles(60)
    left = int(
        tab.at((plane.center[0] + plane.width / 2 + 0.1, 0, 0), overview(plane, tab.aspect))[0] - tab.canvas()[0]
    )
    tab.drag(*ends)
    started = time.perf_counter()
    while np.abs(tab.shot()[:, left:] - before[:, left:]).mean() < 1e-3:
        time.sleep(0.02)
    return time.perf_counter() - started


def slider_rate(tab, seconds=5.0):
    """Poses a second that the server sets while the slider is pulled to and fro by the mouse, and frames drawn."""
    poses = []
    set_fraction = ObjectDisplay.set_fraction

    def counted(display, fraction, in_motion=False):
        set_fraction(display, fraction, in_motion)
        poses.append(fraction)

    ObjectDisplay.set_fraction = counted
    track = tab.page.get_by_role("slider").first.locator("xpath=..").bounding_box()
    middle, height = track["x"] + track["width"] / 2, track["y"] + track["height"] / 2

    def pull(pulls_s):
        started, moves = time.perf_counter(), 0
        while (now := time.perf_counter() - started) < pulls_s:
            tab.page.mouse.move(middle - 0.4 * track["width"] * math.cos(3 * now), height)
            moves += 1
            tab.page.wait_for_timeout(max(0.0, 1000 * (moves / MOVES_PER_S - (time.perf_counter() - started))))

    tab.page.mouse.move(middle, height)
    tab.page.mouse.down()
    pull(3.0)  # so that the object is in motion
    poses.clear()
    drawn, started = frames_drawn(tab), time.perf_counter()
    pull(seconds)
    passed_s = time.perf_counter() - started
    rates = len(poses) / passed_s, (frames_drawn(tab) - drawn) / passed_s
    tab.page.mouse.up()
    ObjectDisplay.set_fraction = set_fraction
    return rates


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", default="base")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--drags", type=int, default=200)
    arguments.add_argument("--all-gaussians", action="store_true")
    options = arguments.parse_args()
    if options.all_gaussians:
        Pace.measure = lambda pace: None
    engine = Engine(load_model(options.model, options.device))
    example = load_examples()[0]
    picture = open_picture(example.path, engine.size_px, example.framing, example.title)
    process = psutil.Process()
    with sync_playwright() as runner, serving(picture, engine, port=0) as address:
        browser = runner.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        context = browser.new_context(viewport={"width": 840, "height": 420}, device_scale_factor=0.5)
        context.add_init_script(COUNT_DRAWS)
        tab = Tab(context, address, pixel_ratio=None)  # as viser adapts it
        drag = example.drags_px[0]
        pixels = [release_to_pixels(tab, picture, drag) for _ in range(5)]
        tab.says("drag to splats")
        status = tab.page.get_by_text("drag to splats").first.inner_text()
        time.sleep(5.0)  # a tab measures its page after a prediction
        slider_per_s, frames_per_s = slider_rate(tab)
        playing_per_s = playing_rate(tab)
        before = process.memory_info().rss
        for _ in range(options.drags):
            release_to_pixels(tab, picture, drag)
        after = process.memory_info().rss
        browser.close()
    print(
        json.dumps(
            {
                "release_to_pixels_s": round(statistics.median(pixels), 2),
                "page_says": " ".join(status.split()),
                "slider_values_at_server_per_s": round(slider_per_s, 1),
                "frames_per_s_by_slider": round(frames_per_s, 1),
                "frames_per_s_playing": round(playing_per_s, 1),
                "server_mb": [round(before / 1e6), round(after / 1e6)],
                "drags": options.drags,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
