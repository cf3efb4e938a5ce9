import threading
import time

from partrm.viewer.playback import ONCE_S, Player


def test_plays_once_from_before_to_after():
    fractions = []
    player = Player(fractions.append)
    player.play_once()
    time.sleep(ONCE_S + 0.5)
    assert fractions[-1] == 1.0
    assert fractions == sorted(fractions)
    assert len(fractions) > 5


def test_no_step_comes_after_stop_has_returned():
    begun, taken = threading.Event(), []

    def step(fraction):
        begun.set()
        time.sleep(0.1)  # as over a busy connection
        taken.append(fraction)

    player = Player(step)
    player.play(0.0)
    assert begun.wait(5)
    player.stop()
    count = len(taken)
    time.sleep(0.3)
    assert len(taken) == count == 1


def test_another_motion_takes_over():
    taken = []
    player = Player(taken.append)
    player.play(0.0)
    time.sleep(0.1)
    player.play_once()
    time.sleep(ONCE_S + 0.3)
    count = len(taken)
    assert taken[-1] == 1.0
    time.sleep(0.2)
    assert len(taken) == count
