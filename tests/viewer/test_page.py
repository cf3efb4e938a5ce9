"""The page end to end: a server in this process, a real browser, real mouse events."""

import io
import math
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from flat_oracle import oracle_model
from PIL import Image
from support.kitchens import BOX as CABINET
from support.kitchens import kitchen

from partrm.geometry.gaussians import load_ply
from partrm.imaging.images import save_image
from partrm.inference.prediction import ADVICE
from partrm.viewer import display, panel
from partrm.viewer import frame_rate as pace
from partrm.viewer.engine import Engine
from partrm.viewer.gallery import Gallery, load_examples
from partrm.viewer.geometry import PRESETS, PicturePlane, overview
from partrm.viewer.picture import BACKGROUND_SHOWN
from partrm.viewer.server import serving
from partrm.viewer.sources import open_picture

FEW = 150
"""Gaussians that stand in for all of them on the crowded page."""

BOX = (50, 40, 150, 110)
SIZE = (200, 150)


KITCHEN = (280, 240)


@pytest.fixture(scope="module")
def box_picture(tmp_path_factory):
    """A box, red on its left half and blue on its right half."""
    width, height = SIZE
    left, top, right, bottom = BOX
    image = torch.zeros(4, height, width)
    image[0, :, : width // 2], image[2, :, width // 2 :] = 0.9, 0.9
    image[3, top:bottom, left:right] = 1
    path = tmp_path_factory.mktemp("box") / "box.png"
    save_image(image, path)
    return path


@pytest.fixture(scope="module")
def box_tab(tabs, engine, box_picture):
    """The one tab that most tests use, of the one server."""
    with serving(open_picture(box_picture, engine.size_px), engine, port=0) as address:
        tab = tabs(address)
        tab.says("box.png")
        yield tab
        tab.close()


@pytest.fixture
def box_page(box_tab, box_picture):
    """The tab on the box without drags."""
    heading = box_tab.page.get_by_role("heading", name="box.png")
    if not heading.count():  # loading the page anew costs more than most tests
        box_tab.page.locator("input[type=file]").first.set_input_files(str(box_picture))
        heading.wait_for()
    box_tab.press("Clear")
    box_tab.says("Drag a part")
    yield box_tab
    assert not box_tab.errors


def on_picture(tab, x, y, size=SIZE):
    """Window pixel of a pixel of a picture, seen from the place that shows both."""
    plane = PicturePlane.of(*size)
    return tab.at(plane.to_world(np.array([x, y], dtype=float)), overview(plane, tab.aspect))


def blue_centre(shot, left_of=None):
    """Mean column and row of the blue pixels right of the picture."""
    blue = (shot[..., 2] > 0.6) & (shot[..., 0] < 0.4) & (shot[..., 1] < 0.4)
    blue[:, : int(left_of)] = False
    assert blue.sum() > 30, "no blue part on the page"
    rows, columns = np.nonzero(blue)
    return np.array([columns.mean(), rows.mean()])


def played(tab):
    """Wait until the motion of a prediction has been played and stands at its end; the shot."""
    percent = tab.page.locator("input[type=text]").first
    pytest.importorskip("playwright.sync_api").expect(percent).to_have_value("100", timeout=40_000)
    return tab.settles()


def patch(shot, tab, x, y):
    """Mean colour about a pixel of the kitchen's picture."""
    column, row = (round(a - b) for a, b in zip(on_picture(tab, x, y, KITCHEN), tab.canvas(), strict=False))
    return shot[row - 2 : row + 3, column - 2 : column + 3].mean((0, 1))


def test_box_and_brushes_make_the_mask_of_a_photograph(box_page, tmp_path):
    """An uploaded kitchen: what is not the object is faded, at once."""
    tab, (picture, _) = box_page, kitchen()
    Image.fromarray(picture).save(tmp_path / "kitchen.png")
    tab.page.locator("input[type=file]").first.set_input_files(str(tmp_path / "kitchen.png"))
    tab.page.get_by_role("heading", name="kitchen.png").wait_for()  # a notice names it before it is opened
    tab.settles()

    def shows(**faded):
        """Wait until places of the cabinet are faded as told, and the wall is."""
        places = {"left": (100, 120), "right": (180, 120), "wall": (30, 120)}
        wanted = {}
        for name, (x, y) in places.items():
            own = picture[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)) / 255
            wanted[name] = own if not ({"wall": True} | faded)[name] else BACKGROUND_SHOWN * own + 1 - BACKGROUND_SHOWN
        tab.shows(lambda shot: all(np.abs(patch(shot, tab, *places[n]) - w).max() < 0.1 for n, w in wanted.items()))

    def draw(what, start, end):
        tab.choose("Mouse draws", what)
        tab.drag(on_picture(tab, *start, KITCHEN), on_picture(tab, *end, KITCHEN))

    left, top, right, bottom = CABINET
    draw(panel.BOX, (left - 3, top - 3), ((left + right) / 2, bottom + 3))
    shows(left=False, right=True)
    draw(panel.BOX, (left - 3, top - 3), (right + 3, bottom + 3))
    shows(left=False, right=False)
    draw(panel.REMOVE, (180, 60), (180, 180))
    shows(left=False, right=True)
    draw(panel.ADD, (180, 100), (180, 140))
    shows(left=False, right=False)
    tab.press("Undo mask")
    shows(left=False, right=True)
    tab.choose("Mouse draws", panel.DRAGS)
    tab.drag(on_picture(tab, 100, 120, KITCHEN), on_picture(tab, 130, 120, KITCHEN))
    tab.says("prismatic joint")


def test_another_joint_is_chosen_by_a_click_and_an_unsure_answer_says_so(box_page, engine, monkeypatch):
    tab = box_page
    monkeypatch.setattr(engine.model.network, "torn", True)
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 150, 75))
    tab.says("prismatic joint")
    first = played(tab)
    buttons = tab.page.get_by_role("button", name="prismatic joint, moved by")
    assert buttons.count() == 3
    buttons.nth(1).click()
    tab.changes(first)
    other = played(tab)
    assert np.abs(other - first).mean() > 1e-3, "another joint moves the part elsewhere"
    buttons.nth(0).click()
    tab.shows(lambda shot: 3 * np.abs(shot - first).mean() < np.abs(shot - other).mean())
    monkeypatch.setattr(engine.model.network, "unsure", True)
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 150, 75))
    tab.says(ADVICE)


def test_drag_drawn_by_mouse_moves_the_part_and_the_slider_moves_it_back(box_page, engine):
    tab = box_page
    empty = tab.settles()
    edge = on_picture(tab, SIZE[0], 0)[0] + 5
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 150, 75))
    tab.says("prismatic joint")
    shown = played(tab)
    after = blue_centre(shown, edge)
    calls = engine.model.network.calls

    slider = tab.page.get_by_role("slider").first
    slider.focus()
    tab.page.keyboard.press("Home")
    still = tab.changes(shown)
    before = blue_centre(tab.settles(), edge)
    # 30 px of a picture that is 1.15 world units and 150 px high; the framed object is larger than in the picture.
    assert 15 < (after - before)[0] < 120
    assert abs((after - before)[1]) < 3
    tab.press("After")
    tab.changes(still)
    np.testing.assert_allclose(blue_centre(tab.settles(), edge), after, atol=2)
    assert engine.model.network.calls == calls, "the slider must not ask the network"
    tab.press("Clear")
    tab.says("Drag a part")
    assert np.abs(tab.settles() - empty).mean() < 1e-3, "the object is still there"
    assert not tab.errors


@pytest.fixture
def crowded_page(tabs, box_picture, monkeypatch):
    """A tab with thousands of Gaussians that counts as slow once it has been asked, whatever draws it here."""
    monkeypatch.setattr(pace, "SLOW_S", 0.0)
    monkeypatch.setattr(pace, "WORTH", math.inf)
    monkeypatch.setattr(display, "FEW", FEW)
    engine = Engine(oracle_model(image_size_px=128))
    with serving(open_picture(box_picture, engine.size_px), engine, port=0) as address:
        tab = tabs(address)
        tab.says("box.png")
        yield tab
        tab.close()


def draws(tab, comparison):
    """Wait until the page draws that many splats."""
    tab.page.wait_for_function(f"window.splats_drawn {comparison}")


def test_few_gaussians_stand_in_while_the_part_moves_and_all_return(crowded_page):
    tab = crowded_page
    empty = tab.settles()
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 150, 75))
    tab.says("prismatic joint")
    draws(tab, f"> {4 * FEW}")
    tab.press("Play")
    draws(tab, f"<= {FEW}")
    tab.press("After")
    draws(tab, f"> {4 * FEW}")
    after = tab.settles()
    # What was sent while few stood in is all Gaussians again, even where the part is coloured meanwhile.
    tab.press("Play")
    draws(tab, f"<= {FEW}")
    tab.changes(after)
    tint = tab.page.get_by_label("Tint the part")
    tint.click()
    tint.click()
    tab.press("After")
    draws(tab, f"> {4 * FEW}")
    tab.shows(lambda shot: np.abs(shot - after).mean() < 1e-3)
    tab.press("Play")
    draws(tab, f"<= {FEW}")
    tab.press("Clear")
    tab.says("Drag a part")
    tab.shows(lambda shot: np.abs(shot - empty).mean() < 1e-3)  # no object is left
    assert not tab.errors


def test_pulling_in_3d_moves_the_part(box_page, engine):
    tab = box_page
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 130, 75))
    tab.says("prismatic joint")
    edge = on_picture(tab, SIZE[0], 0)[0] + 5
    before = tab.settles()
    calls, (x, y) = engine.model.network.calls, blue_centre(before, edge)
    left, top, _, _ = tab.canvas()
    tab.page.keyboard.down("Shift")
    tab.drag((left + x, top + y), (left + x, top + y - 60))
    tab.page.keyboard.up("Shift")
    tab.changes(before)
    moved = blue_centre(tab.settles(), edge)
    assert engine.model.network.calls > calls
    assert y - moved[1] > 10


def test_overlays_background_and_camera_places_change_the_picture_and_change_it_back(box_page):
    tab = box_page
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 150, 75))
    tab.says("prismatic joint")
    plain = tab.settles()

    def there_and_back(there, back, least=1e-3, shows=lambda shot: True):
        there()
        tab.shows(lambda shot: np.abs(shot - plain).mean() > least and shows(shot))
        back()
        tab.shows(lambda shot: np.abs(shot - plain).mean() < least / 10)

    def background(*rgb):
        field = tab.page.locator("input[value^='rgb(']")
        field.fill(f"rgb{rgb}")
        field.press("Enter")

    dark = (40, 60, 90)
    there_and_back(
        lambda: background(*dark),
        lambda: background(255, 255, 255),
        shows=lambda shot: np.abs(shot[-20, 20] * 255 - dark).max() < 2,
    )
    tint, axis = tab.page.get_by_label("Tint the part"), tab.page.get_by_label("Joint axis")
    part = tuple(round(v) for v in np.subtract(on_picture(tab, 140, 90), tab.canvas()[:2]))[::-1]
    assert plain[part][0] < 0.1
    there_and_back(tint.click, tint.click, shows=lambda shot: shot[part][0] > 0.1)  # red in the picture
    there_and_back(axis.click, axis.click, least=2e-5)  # a thin arrow

    def look_from(name):
        tab.choose("Camera", name)

    assert set(PRESETS) >= {"Left", "Above"}
    there_and_back(lambda: look_from("Above"), lambda: look_from("Both"))


def test_play_and_pause_several_drags_and_undo(box_page, engine):
    tab = box_page
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 150, 75))
    tab.says("prismatic joint")
    one = tab.settles()
    percent = tab.page.locator("input[type=text]").first
    tab.press("Play")
    seen, until = set(), time.monotonic() + 30
    while len(seen) < 5:
        assert time.monotonic() < until, "nothing plays"
        time.sleep(0.1)
        seen.add(float(percent.input_value()))
    assert all(0 <= value <= 100 for value in seen)
    tab.press("Pause")
    tab.settles()  # what was under way has arrived
    stands = percent.input_value()
    time.sleep(1)
    assert percent.input_value() == stands
    tab.press("After")
    assert np.abs(tab.settles() - one).mean() < 1e-4

    several = tab.page.get_by_label("Several drags")
    several.click()
    calls = engine.model.network.calls
    tab.drag(on_picture(tab, 130, 95), on_picture(tab, 130, 60))
    tab.changes(one)
    two = tab.settles()
    assert engine.model.network.calls > calls
    tab.press("Undo")
    tab.changes(two)
    assert np.abs(tab.settles() - one).mean() < 1e-4
    several.click()
    assert not tab.errors


def test_files_and_an_offline_page_can_be_taken_away(box_page, chromium, tmp_path):
    tab = box_page
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 150, 75))
    tab.says("prismatic joint")
    tab.settles()
    tab.page.get_by_text("Export", exact=True).click()

    def download(kind):
        tab.choose("What", kind)
        with tab.page.expect_download(timeout=60_000) as waiting:
            tab.press("Download")
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    assert len(load_ply(download("Gaussians after (PLY)"))) > 100
    html = download("3D page (HTML, works offline)")
    offline = chromium.new_context(viewport={"width": 400, "height": 300}, device_scale_factor=0.5, offline=True)
    asked = []
    saved = offline.new_page()
    saved.on("request", lambda request: asked.append(request.url))
    saved.goto(html.as_uri())
    saved.wait_for_selector("canvas", timeout=60_000)
    until = time.monotonic() + 40
    while True:
        shot = np.asarray(Image.open(io.BytesIO(saved.screenshot())).convert("RGB"), dtype=float) / 255
        drawn = ((shot[..., 2] > 0.6) & (shot[..., 0] < 0.4)).sum() > 20
        if drawn and saved.workers:
            break
        assert time.monotonic() < until, "no sorting of splats" if drawn else "the saved page shows no object"
        time.sleep(0.5)
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    offline.close()


def test_a_page_of_another_server_gets_no_session(box_page, engine):
    address = box_page.address
    with serving(None, engine, port=0) as other:
        connected = []
        page = box_page.page.context.new_page()
        page.on("websocket", lambda socket: connected.append(socket.url))
        with page.expect_websocket(timeout=60_000):
            page.goto(f"{other}/?websocket={address.replace('http', 'ws')}")
        page.wait_for_selector("canvas", timeout=60_000)
        time.sleep(2)
        assert all(urlsplit(url).netloc == urlsplit(address).netloc for url in connected)
        assert page.get_by_role("button", name="Upload a picture").count() == 0
        page.close()


def test_a_failure_is_only_a_notice(box_page, engine):
    tab = box_page
    engine.model.network.failing = True
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 150, 75))
    tab.says("the network has broken down")
    engine.model.network.failing = False
    tab.drag(on_picture(tab, 20, 135), on_picture(tab, 60, 135))
    tab.says("lies on the background")
    tab.dismiss()
    tab.drag(on_picture(tab, 120, 75), on_picture(tab, 140, 75))
    tab.says("prismatic joint")
    assert not tab.errors


def test_tabs_are_their_own(box_page, tabs):
    two = tabs(box_page.address)
    two.says("box.png")
    empty = two.settles()
    box_page.drag(on_picture(box_page, 120, 75), on_picture(box_page, 150, 75))
    box_page.says("prismatic joint")
    assert np.abs(two.settles() - empty).mean() < 1e-3
    assert two.page.get_by_text("prismatic joint").count() == 0
    two.open()  # a reload begins anew
    two.says("Drag a part")
    two.close()


def test_wall_of_examples_opens_one_and_uploads_are_taken_or_refused(box_page, tmp_path):
    tab, examples = box_page, load_examples()
    assert len(examples) >= 6
    tab.press("Examples")
    tab.says("Click one")
    tab.settles()
    place = Gallery.place(len(examples), tab.aspect)
    tile = tab.at((-0.37, -0.4, 0.0), place)
    tab.page.mouse.move(*tile)
    time.sleep(0.3)
    tab.page.mouse.click(*tile)
    tab.says(examples[5].title)
    tab.says("moved by")
    tab.says("Gaussians")
    chooser = tab.page.locator("input[type=file]").first
    (tmp_path / "fake.png").write_bytes(b"no picture at all" * 10)
    chooser.set_input_files(str(tmp_path / "fake.png"))
    tab.says("not an image that can be read here")
    (tmp_path / "huge.png").write_bytes(b"\0" * 32_100_000)
    chooser.set_input_files(str(tmp_path / "huge.png"))
    tab.says("at most 32 MB")
    tab.page.get_by_text("Uploading").first.wait_for(state="detached")
    assert tab.page.get_by_role("button", name="Upload").first.is_enabled(), "another upload may begin"
    tab.dismiss()
