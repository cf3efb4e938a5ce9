"""A tab's behaviour without a browser: order of work, steadiness, what the slider costs."""

import gc
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from silent import SilentClient

from partrm.images import save_image
from partrm.viewer import display
from partrm.viewer.display import REST_S
from partrm.viewer.geometry import PRESETS, overview
from partrm.viewer.session import Session
from partrm.viewer.sources import open_picture


@pytest.fixture
def client():
    return SilentClient()


@pytest.fixture
def session(client, engine, tmp_path):
    image = torch.zeros(4, 150, 200)
    image[2], image[3, 40:110, 50:150] = 0.9, 1
    save_image(image, tmp_path / "box.png")
    session = Session(client, engine, (), tmp_path)
    session.start(open_picture(tmp_path / "box.png", engine.size_px))
    done(session)
    yield session
    session.close()


def done(session):
    """Wait for all work of the tab, that which work itself asks for too."""
    for _ in range(3):
        session._worker.submit(lambda: None).result(timeout=60)


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


def test_memory_stays_over_200_drags(session, client):
    def drag():
        drag_on_picture(session, client, (120, 75), (140, 70), phases=("start", "end"))

    for _ in range(40):
        drag()
    gc.collect()
    process = psutil.Process()
    before, nodes = process.memory_info().rss, len(client.scene.nodes)
    for _ in range(160):
        drag()
    gc.collect()
    assert len(client.scene.nodes) == nodes
    assert process.memory_info().rss - before < 30e6


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


def test_nothing_to_export_is_a_notice(session, client):
    client.gui.controls["What"].value = "Video (MP4)"
    client.gui.controls["Download"].callback(None)
    done(session)
    assert client.downloads == []
    assert "draw a drag first" in client.notices[0][1]


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
