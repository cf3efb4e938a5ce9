"""A tab's behaviour without a browser: order of work, steadiness, what the slider costs."""

import gc
import io
import json
import threading
import time
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from silent import done
from support.kitchens import BOX, kitchen
from torch.testing import assert_close

from partrm.imaging.cutout import NoObjectError
from partrm.inference.part_search import FoundPart
from partrm.inference.prediction import ADVICE
from partrm.viewer import display, panel, sources
from partrm.viewer.display import REST_S
from partrm.viewer.geometry import PRESETS, overview
from partrm.viewer.session import Session
from partrm.viewer.sources import open_picture


def through(coroutine):
    """Run a coroutine that waits for nothing."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def drag_on_picture(session, client, start, end, phases=("start", "update", "end")):
    plane = session._picture.plane
    client.camera.position = np.array([*plane.center[:2], 3.0])

    def event(phase, x, y):
        world = plane.to_world(np.array([x, y], dtype=float))
        first = plane.to_world(np.array(start, dtype=float))
        return SimpleNamespace(client=client, phase=phase, start_position=first, end_position=world)

    for phase in phases:
        through(session._on_picture_drag(event(phase, *(start if phase == "start" else end))))
    done(session)


def test_drags_replace_one_another_undo_goes_back_and_clear_takes_all(session, client):
    drag_on_picture(session, client, (120, 75), (140, 75))
    drag_on_picture(session, client, (120, 75), (120, 60))
    assert np.allclose(session._drags, [(120, 75, 120, 60)], atol=0.1)
    client.gui.controls["Several drags"].value = True
    drag_on_picture(session, client, (130, 75), (130, 60))
    assert len(session._drags) == 2
    for left in (1, 1, 0, 0):
        client.gui.controls["Drags"].callback(SimpleNamespace(target=SimpleNamespace(value="Undo")))
        done(session)
        assert len(session._drags) == left
    assert not any(name.startswith("/object/body/") for name in client.scene.nodes)
    assert not client.notices


def test_slider_sets_only_the_pose_of_the_moving_node(session, client, engine):
    drag_on_picture(session, client, (120, 75), (140, 75))
    session._player.stop()
    time.sleep(0.1)
    joint, calls = session._result.shown.joint, engine.model.network.calls
    nodes = dict(client.scene.nodes)
    started = time.perf_counter()
    for step in range(201):
        session._seek(step / 200)
    assert time.perf_counter() - started < 10, "at least 20 updates a second"
    part = client.scene.nodes["/object/part"]
    np.testing.assert_allclose(part.position, joint.T_after_before[:3, 3], atol=1e-6)
    assert client.scene.nodes == nodes, "no node comes or goes"
    assert engine.model.network.calls == calls


def test_a_page_that_draws_slowly_gets_few_gaussians_while_they_move_and_all_at_rest(session, client, monkeypatch):
    monkeypatch.setattr(display, "FEW", 40)
    client.splats_per_s = 1000
    drag_on_picture(session, client, (120, 75), (140, 75))
    body, part = (client.scene.nodes[f"/object/{name}/splats"] for name in ("body", "part"))

    def count():
        return len(body.centers) + len(part.centers)

    everything = len(session._result.shown.before)
    assert everything > 100
    session._player.stop()
    time.sleep(2 * REST_S)
    assert count() == everything
    session._jump(0.0)
    assert count() == everything, "one step is no motion"
    session._seek(0.5)
    assert 0 < count() <= 40
    handles = [node for name, node in client.scene.nodes.items() if name.endswith("/handle")]
    assert handles
    assert not any(handle.visible for handle in handles)
    for _ in range(6):
        time.sleep(REST_S / 3)
        session._seek(0.6)
        assert count() <= 40, "few as long as it moves"
    time.sleep(2 * REST_S)
    assert count() == everything
    assert all(handle.visible for handle in handles)
    assert client.scene.nodes["/object/part/splats"] is part, "the node stays"


@pytest.mark.parametrize("latency_s", [0.0, 0.1])
def test_a_page_that_draws_fast_always_has_all_gaussians_even_far_away(session, client, latency_s):
    client.latency_s = latency_s
    drag_on_picture(session, client, (120, 75), (140, 75))
    for step in range(10):
        session._seek(step / 10)
        shown = [len(client.scene.nodes[f"/object/{name}/splats"].centers) for name in ("body", "part")]
        assert sum(shown) == len(session._result.shown.before)


def test_colouring_the_part_while_few_stand_in_leaves_it_to_be_pulled(session, client, monkeypatch):
    monkeypatch.setattr(display, "FEW", 40)
    client.splats_per_s = 1000
    drag_on_picture(session, client, (120, 75), (140, 75))
    session._player.stop()
    time.sleep(2 * REST_S)
    session._seek(0.5)
    session._set_tint(True)
    handles = [node for name, node in client.scene.nodes.items() if name.endswith("/handle")]
    time.sleep(2 * REST_S)
    assert len(handles) == 2
    assert all(handle.visible for handle in handles)
    splats = [client.scene.nodes[f"/object/{name}/splats"] for name in ("body", "part")]
    assert sum(len(node.centers) for node in splats) == len(session._result.shown.before)


def test_other_work_does_not_wait_for_the_page_to_be_measured(session, client, monkeypatch):
    monkeypatch.setattr(display, "FEW", 40)
    client.latency_s = 1.0
    drag_on_picture(session, client, (120, 75), (140, 75), phases=("start",))
    session._do("Prediction", lambda: session._set_drags([(120.0, 75.0, 140.0, 75.0)]))
    while session._result is None:
        time.sleep(0.01)
    time.sleep(0.1)
    started, waited = time.perf_counter(), []
    session._do("Other", lambda: waited.append(time.perf_counter() - started))
    done(session)
    assert waited[0] < 2 * client.latency_s, "one question at most is waited for"
    assert not session._object.draws_slowly
    client.latency_s, client.splats_per_s = 0.0, 1000
    drag_on_picture(session, client, (120, 75), (140, 75))
    assert session._object.draws_slowly, "it is measured another time"


def test_slider_updates_that_overtake_one_another_end_where_the_slider_stands(session, client):
    slider = client.gui.controls["Percent"]
    held, free, seeks = threading.Event(), threading.Event(), []

    def seek(fraction):
        if not held.is_set():
            held.set()
            assert free.wait(5)
        seeks.append(fraction)

    object.__setattr__(session._panel._actions, "seek", seek)
    moved = SimpleNamespace(client=client)
    slider.value = 30.0
    first = threading.Thread(target=slider.callback, args=(moved,))
    first.start()
    assert held.wait(5)
    slider.value = 50.0
    second = threading.Thread(target=slider.callback, args=(moved,))
    second.start()
    second.join(0.2)
    free.set()
    first.join(5)
    second.join(5)
    assert seeks[-1] == 0.5


def test_slider_returns_into_the_drag_when_beyond_is_switched_off(session, client):
    drag_on_picture(session, client, (120, 75), (140, 75))
    session._player.stop()
    slider, beyond = client.gui.controls["Percent"], client.gui.controls["Beyond the drag"]
    for value, expected in ((180.0, 1.0), (-70.0, 0.0), (40.0, 0.4)):
        beyond.value = True
        beyond.callback(None)
        slider.value = value
        slider.callback(SimpleNamespace(client=client))
        assert session._object.fraction == pytest.approx(value / 100)
        beyond.value = False
        beyond.callback(None)
        assert session._object.fraction == pytest.approx(expected)
        assert slider.value == pytest.approx(100 * expected)


def test_part_under_a_held_drag_is_tinted_and_the_tint_goes_with_the_drag(session, client, engine):
    for _ in range(5):
        engine._recent_s.append(0.01)
    assert engine.fast
    plain = session._picture._pixels
    drag_on_picture(session, client, (120, 75), (140, 75), phases=("start", "update"))
    assert (client.scene.nodes["/picture"].image != plain).any()
    assert session._result is None, "nothing is predicted in 3D before the release"
    drag_on_picture(session, client, (120, 75), (120, 75), phases=("update", "end"))
    assert (client.scene.nodes["/picture"].image == plain).all()
    assert session._drags == []
    drag_on_picture(session, client, (20, 10), (40, 10), phases=("start", "update"))
    assert not client.notices, "a drag that cannot be used yet is no failure"


def test_a_drag_begun_before_the_last_ones_prediction_does_not_drop_it(session, client, engine):
    for _ in range(5):
        engine._recent_s.append(0.01)
    plane = session._picture.plane
    client.camera.position = np.array([*plane.center[:2], 3.0])
    first, second = (plane.to_world(np.array(p, dtype=float)) for p in ((120, 75), (140, 75)))
    with engine._turn:  # a prediction takes its time
        for phase in ("end", "start", "update"):
            event = SimpleNamespace(client=client, phase=phase, start_position=first, end_position=second)
            through(session._on_picture_drag(event))
            time.sleep(0.2)
    done(session)
    assert session._result is not None


@pytest.mark.whole_run
def test_memory_stays_over_many_drags(session, client):
    def drag():
        drag_on_picture(session, client, (120, 75), (140, 70), phases=("start", "end"))

    for _ in range(5):
        drag()
    gc.collect()
    process = psutil.Process()
    before, nodes = process.memory_info().rss, len(client.scene.nodes)
    for _ in range(12):
        drag()
    gc.collect()
    assert len(client.scene.nodes) == nodes
    assert process.memory_info().rss - before < 6e6


def test_crop_changes_what_the_network_sees_but_not_the_drag(session, client):
    drag_on_picture(session, client, (120, 75), (140, 75))
    drags, scale = list(session._drags), session._opened.views.framed[0].scale
    session._crop(1.5, 0.1, 0.0)
    done(session)
    assert session._drags == drags
    assert session._opened.views.framed[0].scale == pytest.approx(scale / 1.5, rel=0.02)
    assert session._result.prediction.source.framed[0].scale == session._opened.views.framed[0].scale
    session._do("Crop", lambda: session._crop(0.5, 3.0, 3.0))
    done(session)
    assert client.notices == [("Crop failed", "the crop shows nothing of the object")]


@pytest.fixture
def photo_session(client, engine, tmp_path):
    """A tab on a photograph whose object is found by GrabCut alone."""
    Image.fromarray(kitchen()[0]).save(tmp_path / "kitchen.png")
    session = Session(client, engine, (), tmp_path)
    session.start(open_picture(tmp_path / "kitchen.png", engine.size_px))
    done(session)
    yield session
    session.close()


def paint(session, client, what, start, end):
    client.gui.controls["Mouse draws"].value = what
    drag_on_picture(session, client, start, end)


def found_mask(session):
    return session._opened.rgba[3].numpy() > 0.5


def test_a_box_and_brushes_make_the_mask_and_the_crop_follows(photo_session, client):
    session, (left, top, right, bottom) = photo_session, BOX
    _, cabinet = kitchen()
    seen = client.scene.nodes["/picture"].image if hasattr(client.scene.nodes["/picture"], "image") else None
    paint(session, client, panel.BOX, (right + 2, bottom + 2), (left - 2, top - 2))
    assert session._opened.cut_by == "grabcut box"
    boxed = found_mask(session)
    assert (boxed & cabinet).sum() / (boxed | cabinet).sum() > 0.95
    assert client.gui.controls["Mouse draws"].value == panel.DRAGS, "a box is drawn once"
    assert client.scene.nodes["/picture"].image is not seen
    crop = session._opened.views.framed[0]
    x, y = crop.to_framed_px(torch.tensor([(left + right) / 2, (top + bottom) / 2])).tolist()
    assert (x, y) == pytest.approx((crop.image.shape[-1] / 2,) * 2, abs=1)

    client.gui.controls["Brush"].value = 10.0
    paint(session, client, panel.REMOVE, (180, 40), (180, 200))
    removed = found_mask(session)
    assert not removed[60:180, 178:182].any()
    narrow = session._opened.views.framed[0]
    assert narrow.corner_px != crop.corner_px, "the crop follows"
    assert client.gui.controls["Mouse draws"].value == panel.REMOVE, "a brush stays in the hand"
    paint(session, client, panel.ADD, (180, 80), (180, 120))
    assert found_mask(session)[80:120, 180].all()
    for expected in (removed, boxed):
        client.gui.controls["Undo mask"].callback(None)
        done(session)
        assert (found_mask(session) == expected).all()
    assert not any(name == "/picture_outline" for name in client.scene.nodes)
    assert not client.notices


def test_a_box_too_small_and_a_mask_brushed_away_change_nothing(photo_session, client):
    before = photo_session._opened
    paint(photo_session, client, panel.BOX, (100, 100), (103, 103))
    client.gui.controls["Brush"].value = 400.0
    paint(photo_session, client, panel.REMOVE, (100, 100), (180, 140))
    assert photo_session._opened is before
    assert [title for title, _ in client.notices] == ["Box failed", "Brush failed"]


def test_an_image_with_a_mask_of_its_own_is_painted_but_not_cut(session, client):
    paint(session, client, panel.BOX, (60, 50), (120, 100))
    assert "already" in client.notices[0][1]
    paint(session, client, panel.ADD, (20, 20), (30, 20))
    assert found_mask(session)[20, 20:30].all()
    assert found_mask(session)[75, 100]


def test_a_photo_in_which_nothing_is_found_opens_and_a_box_finds_it(
    photo_session, client, engine, tmp_path, monkeypatch
):
    def nothing(*_):
        raise NoObjectError("no object stands out")

    monkeypatch.setattr(sources, "open_photo", nothing)
    photo_session.show_source(open_picture(tmp_path / "kitchen.png", engine.size_px))
    assert "draw a box about it" in photo_session._panel._status.content
    assert found_mask(photo_session).all()
    paint(photo_session, client, panel.BOX, BOX[:2], BOX[2:])
    assert 0.2 < found_mask(photo_session).mean() < 0.4
    assert not client.notices


def test_other_joints_can_be_chosen_and_taken_back(session, client, engine, monkeypatch):
    monkeypatch.setattr(engine.model.network, "torn", True)
    drag_on_picture(session, client, (120, 75), (140, 75))
    first = session._result.prediction
    assert len(first.alternatives) == 2
    assert client.gui.controls["Joint, if it is another"].visible
    assert all("joint, moved by" in button.label and button.visible for button in session._panel._joints)
    calls = engine.model.network.calls
    session._panel._joints[1].callback(None)
    done(session)
    chosen = session._result.prediction
    assert chosen.joint is first.alternatives[0]
    assert session._result.shown.joint is chosen.joint
    assert torch.equal(chosen.before.means, first.before.means)
    assert not torch.equal(chosen.after.means, first.after.means)
    session._panel._joints[0].callback(None)
    done(session)
    assert session._result.prediction.joint is first.joint
    assert_close(session._result.prediction.after.means, first.after.means)
    assert engine.model.network.calls == calls, "the network is not asked again"
    session._clear_drags()
    assert not client.gui.controls["Joint, if it is another"].visible


def test_an_unsure_answer_says_so(session, client, engine, monkeypatch):
    drag_on_picture(session, client, (120, 75), (140, 75))
    assert ADVICE not in session._panel._status.content
    monkeypatch.setattr(engine.model.network, "unsure", True)
    drag_on_picture(session, client, (120, 75), (140, 75))
    assert session._result.prediction.uncertain
    assert ADVICE in session._panel._status.content


def test_nothing_to_export_is_a_notice(session, client):
    client.gui.controls["What"].value = "Video (MP4)"
    client.gui.controls["Download"].callback(None)
    done(session)
    assert client.downloads == []
    assert "draw a drag first" in client.notices[0][1]


def test_all_kinds_of_files_can_be_taken_away(session, client):
    drag_on_picture(session, client, (120, 75), (150, 75))
    for kind in ("Gaussians before (PLY)", "Video (MP4)", "Picture (PNG)", "Description (prediction.json)"):
        client.gui.controls["What"].value = kind
        client.gui.controls["Download"].callback(None)
    done(session)
    before, video, picture, description = (content for _, content in client.downloads)
    assert before.startswith(b"ply")
    assert b"ftyp" in video[:16]
    assert Image.open(io.BytesIO(picture)).width > 100
    assert json.loads(description)["joint"]["type"] == "prismatic"
    assert client.notices == []


def test_parts_found_are_numbered_and_a_click_moves_the_smallest(session, client, engine, monkeypatch):
    opened = session._opened
    whole = engine.predict(opened.views, [(120.0, 75.0, 140.0, 75.0)])
    masks = torch.zeros(2, 150, 200)
    masks[0, 50:100, 60:140], masks[1, 60:70, 70:90] = 1.0, 1.0
    found = tuple(FoundPart(replace(whole), 0.9) for _ in masks)
    for part, mask in zip(found, masks, strict=True):
        vars(part.prediction)["part_mask"] = mask
    monkeypatch.setattr(engine, "find_parts", lambda views, wanted, advance: advance(1, 2) or found)
    client.gui.controls["Find parts"].callback(None)
    done(session)
    numbered = client.scene.nodes["/picture"].image
    assert session._result is None

    def click(x, y):
        plane = session._picture.plane
        at, eye = plane.to_world(np.array([x, y], dtype=float)), np.array([*plane.center[:2], 3.0])
        (chosen,) = [call for kind, _, call in client.scene.nodes["/picture"].callbacks if kind == "click"]
        chosen(SimpleNamespace(ray_origin=eye, ray_direction=at - eye))
        done(session)

    click(5, 5)
    assert session._result is None, "no part is there"
    for pixel, part in (((80, 65), found[1]), ((130, 90), found[0])):
        click(*pixel)
        assert session._result.prediction is part.prediction
        assert np.array_equal(client.scene.nodes["/picture"].image, numbered), "the numbers stay"
    drag_on_picture(session, client, (120, 75), (140, 75))
    assert session._parts == ()
    assert not np.array_equal(client.scene.nodes["/picture"].image, numbered)


def test_an_asset_can_be_taken_away(session, client):
    pytest.importorskip("xatlas", reason="the extra export")
    drag_on_picture(session, client, (120, 75), (150, 75))
    client.gui.controls["What"].value = "Asset for simulators (ZIP)"
    client.gui.controls["Download"].callback(None)
    done(session)
    assert client.notices == []
    ((name, content),) = client.downloads
    assert name == "asset.zip"
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert {"asset/asset.json", "asset/object.urdf", "asset/object.xml", "asset/object.glb"} <= set(names)


def test_camera_places_look_at_what_they_name(session, client):
    session._look_from("Above")
    assert tuple(client.camera.position) == PRESETS["Above"].position
    session._look_from("Both")
    place = overview(session._picture.plane, client.camera.aspect)
    assert tuple(client.camera.position) == place.position
    # Everything lies within the window.
    plane = session._picture.plane
    half = np.tan(client.camera.fov / 2) * place.position[2]
    assert abs(plane.center[0] - plane.width / 2 - place.position[0]) < half * client.camera.aspect
    assert plane.height / 2 < half


def test_a_closed_tab_takes_no_more_work(session, client):
    session.close()
    session._do("Late", lambda: client.notices.append("ran"))
    assert client.notices == []
