"""The page of an asset: read as text, and in a real browser."""

import base64
import io
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from partrm.assets import html_files
from partrm.assets.predicted import AssetError

DOOR = "part_3"
"""Of the cabinet; the dial, ``part_1``, hangs on it."""


@pytest.fixture
def tab(three, chromium):
    """The page opened from disk, without a network; and what it asked for."""
    context = chromium.new_context(viewport={"width": 320, "height": 320}, offline=True)
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((three[1] / "object.html").as_uri())
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    yield SimpleNamespace(page=page, asked=asked)
    context.close()
    assert not errors


def shot(page) -> np.ndarray:
    """What the canvas shows once everything asked for is drawn, [height, width, 3] of 0 to 255."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    picture = Image.open(io.BytesIO(page.locator("canvas").screenshot()), formats=["PNG"])
    return np.asarray(picture.convert("RGB")).astype(int)


def slide(page, name: str, share: float) -> None:
    """To a share of the joint's range."""
    page.get_by_label(name, exact=True).evaluate(
        """(slider, share) => {
            slider.value = Number(slider.min) + share * (slider.max - slider.min);
            slider.dispatchEvent(new Event("input"));
        }""",
        share,
    )


def differ(a: np.ndarray, b: np.ndarray) -> int:
    """Pixels that changed."""
    return int((abs(a - b).max(-1) > 8).sum())


def test_the_page_holds_the_glb_and_forbids_the_network(three):
    folder = three[1]
    text = (folder / "object.html").read_text(encoding="utf-8")
    (content,) = re.findall(r'const glb = "([^"]*)"', text)
    assert base64.b64decode(content) == (folder / "object.glb").read_bytes()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    allowed = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert allowed.pop("default-src") == "'none'"
    assert set(" ".join(allowed.values()).split()) == {"'unsafe-inline'", "blob:", "data:"}
    assert not re.findall(r"<(?:link|img|iframe)\b|<script[^>]+src|@import", text)
    assert "{{" not in text.split("<script>")[0] + text.split("<script>")[-1]


def test_names_cannot_end_the_title(three, tmp_path):
    asset = three[0]
    odd = replace(asset, object=replace(asset.object, name="a </title><b>"))
    html_files.save_html(odd, tmp_path / "odd.html")
    assert "<title>a &lt;/title&gt;&lt;b&gt;</title>" in (tmp_path / "odd.html").read_text(encoding="utf-8")


def test_every_slider_moves_its_part_and_nothing_is_fetched(tab):
    page = tab.page
    rest = shot(page)
    assert 0.05 < (rest.min(-1) < 200).mean() < 0.8, "an object before light grey"
    changed = {}
    for name in ("part_1", "part_2", DOOR):
        slide(page, name, 0.5)
        changed[name] = differ(shot(page), rest)
        slide(page, name, 0)
        assert differ(shot(page), rest) == 0, "back at rest"
    assert min(changed.values()) > 20, changed
    assert changed[DOOR] > 1000, changed
    assert page.locator("output").all_inner_texts()[1] == "0.0 cm"
    assert {address.split(":")[0] for address in tab.asked} <= {"file", "blob", "data"}


def test_what_hangs_on_a_part_goes_with_it(tab):
    page = tab.page
    slide(page, DOOR, 1)
    opened = shot(page)
    slide(page, "part_1", 0.5)
    turned = shot(page)
    _, columns = np.nonzero(abs(turned - opened).max(-1) > 8)
    assert len(columns), "the dial turns on the opened door"
    slide(page, "part_1", 0)
    slide(page, DOOR, 0)
    rest = shot(page)
    slide(page, "part_1", 0.5)
    _, across = np.nonzero(abs(shot(page) - rest).max(-1) > 8)
    assert abs(columns.mean() - across.mean()) > 10, "and is where the door has carried it"


def test_it_plays_stops_turns_and_zooms(tab):
    page, slider = tab.page, tab.page.get_by_label(DOOR, exact=True)
    rest = shot(page)
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("slider => slider.valueAsNumber !== 0", arg=slider.element_handle())
    page.get_by_role("button", name="Pause").click()
    stopped = slider.input_value()
    assert differ(shot(page), shot(page)) == 0
    assert slider.input_value() == stopped
    for name in ("part_1", "part_2", DOOR):
        slide(page, name, 0)
    assert differ(shot(page), rest) == 0
    page.mouse.move(160, 100)
    page.mouse.down()
    page.mouse.move(80, 120, steps=3)
    page.mouse.up()
    turned = shot(page)
    assert differ(turned, rest) > 1000
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(100)
    near = shot(page)
    assert (near.min(-1) < 200).sum() > 1.2 * (turned.min(-1) < 200).sum(), "larger"


def test_a_trimesh_without_the_script_is_told(monkeypatch):
    assert "THREE.GLTFLoader=" in html_files.three_js()
    monkeypatch.setattr(html_files, "SCRIPT", re.compile("(not there)"))
    with pytest.raises(AssetError, match=r"trimesh \d.* holds no three.js for the page: install trimesh 4.5 to 5.2"):
        html_files.three_js()
