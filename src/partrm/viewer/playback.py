"""Plays the motion: calls back with fractions at a steady rate until it is stopped."""

import math
import threading
import time
from collections.abc import Callable

RATE_HZ = 30.0

PERIOD_S = 2.4
"""Of one round there and back while playing."""

ONCE_S = 0.8
"""From before to after when a prediction is shown."""


class Player:
    """One motion at a time; starting another stops the one under way."""

    def __init__(self, step: Callable[[float], None]) -> None:
        self._step = step
        self._lock = threading.RLock()
        """Held for each step, so that none comes after :meth:`stop` has returned."""
        self._stop = threading.Event()

    def stop(self) -> None:
        """Stop; the last fraction stays. A step under way is waited for."""
        with self._lock:
            self._stop.set()

    def play(self, start: float) -> None:
        """Go there and back from a fraction in [0, 1] until stopped."""
        phase = math.acos(1 - 2 * min(max(start, 0.0), 1.0)) / (2 * math.pi)
        self._run(lambda seconds: (1 - math.cos(2 * math.pi * (phase + seconds / PERIOD_S))) / 2, math.inf)

    def play_once(self) -> None:
        """Go from 0 to 1 once."""
        self._run(lambda seconds: min(seconds / ONCE_S, 1.0), ONCE_S)

    def _run(self, fraction_at: Callable[[float], float], length_s: float) -> None:
        with self._lock:
            self._stop.set()
            stop = self._stop = threading.Event()
        threading.Thread(target=self._loop, args=(stop, fraction_at, length_s), daemon=True).start()

    def _loop(self, stop: threading.Event, fraction_at: Callable[[float], float], length_s: float) -> None:
        started = time.perf_counter()
        while True:
            with self._lock:
                if stop.is_set():
                    return
                seconds = time.perf_counter() - started
                self._step(fraction_at(seconds))
            if seconds >= length_s:
                return
            stop.wait(1 / RATE_HZ)
