"""What a tab does with messages that no page sends, and when it closes while its work goes on."""

import threading

import pytest
from silent import done


@pytest.mark.whole_run  # the page's values are of no type
@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1e300])
def test_places_and_colours_that_no_page_sends_change_nothing(odd, session, client):
    session._worker.submit(session._set_drags, [(100.0, 75.0, 130.0, 75.0)])
    done(session)
    before = session._object.fraction
    session._seek(odd)
    assert session._object.fraction == before
    client.scene.background = None
    for color in ((), (1, 2), (odd, 0, 0), (300, 0, 0), "abc"):
        session._set_background(color)
    assert client.scene.background is None


def test_a_tab_that_closes_while_the_network_runs_gets_no_answer_and_keeps_no_thread(
    session, client, engine, monkeypatch, caplog
):
    running, goes_on, predict = threading.Event(), threading.Event(), engine.predict

    def slow(*words, **options):
        answer = predict(*words, **options)
        running.set()
        goes_on.wait(20)
        return answer

    monkeypatch.setattr(engine, "predict", slow)
    session._do("Prediction", lambda: session._set_drags([(100.0, 75.0, 130.0, 75.0)]))
    assert running.wait(20)
    (thread,) = session._worker._threads
    session.close()
    nodes = set(client.scene.nodes)
    goes_on.set()
    thread.join(20)
    assert not thread.is_alive()
    assert set(client.scene.nodes) == nodes
    assert session._result is None
    assert caplog.records == []
