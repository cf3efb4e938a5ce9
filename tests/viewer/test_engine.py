import threading

import pytest
import torch
from flat_oracle import oracle_model

from partrm.inference.source import single_view
from partrm.model.checkpoints import CheckpointError, load_model
from partrm.viewer.engine import Engine, Generation


def test_a_network_may_be_loaded_when_it_is_first_needed():
    loads = []

    def load():
        loads.append(1)
        return oracle_model()

    engine = Engine(load)
    assert not loads
    assert engine.size_px == 64
    assert engine.model is engine.model
    assert len(loads) == 1


def test_weights_that_cannot_be_loaded_are_told_each_time(tmp_path):
    engine = Engine(lambda: load_model(str(tmp_path / "none"), "cpu"))
    for _ in range(2):
        with pytest.raises(CheckpointError, match="none"):
            _ = engine.size_px


def test_only_the_newest_request_is_wanted():
    generation = Generation()
    before = generation.current
    requests = [generation.next() for _ in range(3)]
    assert [request.outdated for request in requests] == [True, True, False]
    assert before.outdated
    assert not generation.current.outdated


def test_generations_do_not_outdate_each_other():
    previews, releases = Generation(), Generation()
    preview, release = previews.next(), releases.next()
    releases.next()
    assert release.outdated
    assert not preview.outdated


def test_what_nobody_waits_for_any_more_is_not_computed(monkeypatch):
    rgba = torch.zeros(4, 40, 40)
    rgba[:, 10:30, 10:30] = 1
    views, drags = single_view(rgba, 64, "auto"), [(15.0, 15.0, 25.0, 15.0)]
    engine, asked = Engine(oracle_model()), []
    monkeypatch.setattr("partrm.viewer.engine.predict", lambda *inputs, **options: asked.append(inputs))
    closed = threading.Event()
    with engine._turn:  # another tab's prediction takes its time
        waiting = threading.Thread(target=lambda: engine.predict(views, drags, lambda: not closed.is_set()))
        waiting.start()
        closed.set()
    waiting.join()
    assert not asked
    engine.predict(views, drags)
    assert len(asked) == 1
