"""How quickly a tab's page draws, found out from how long it takes to answer."""

import time
from collections.abc import Callable
from typing import Any

from partrm.viewer.display import ObjectDisplay

ASKED = 4
"""Questions; the first waits for whatever is under way and does not count."""

SLOW_S = 0.05
"""A page that takes longer may draw fewer than 20 frames a second; a distant server takes as long."""

TRIES = 3
"""Measurements in a tab until one finds few Gaussians worth it; other work on the machine disturbs them."""

WORTH = 0.6
"""Few Gaussians are worth their looks where the page then answers within this share of its time."""

PATIENCE_S = 15.0
"""A page that takes longer is not measured."""


class Pace:
    """Finds out whether a tab's page draws slowly, and clearly faster with few Gaussians in place of all."""

    def __init__(self, client: Any, display: ObjectDisplay, hurried: Callable[[], bool]) -> None:
        """A page not measured yet.

        Args:
            hurried: whether other work waits for the measurement, which is then given up, to be made another time.
        """
        self._client, self._display, self._hurried = client, display, hurried
        self._tries = 0

    def measure(self) -> None:
        """Tell the display whether its page draws slowly, unless that is known or not worth another try."""
        display = self._display
        if display.draws_slowly or self._tries == TRIES or not display.many:
            return
        all_s = answer_s(self._client, self._hurried)
        few_s = None
        if all_s is not None and all_s > SLOW_S:
            display.show_few(True)
            few_s = answer_s(self._client, self._hurried)
            display.show_few(False)
            display.draws_slowly = few_s is not None and few_s < WORTH * all_s
        if not self._hurried():
            self._tries += 1


def answer_s(client: Any, hurried: Callable[[], bool]) -> float | None:
    """Least seconds that a page takes to answer a question; it answers between two frames.

    Software drawing of many splats shows here as whole frames of waiting. A page in the background answers at once.
    None: it does not answer, or there is no time to ask on.
    """
    times = []
    for _ in range(ASKED):
        if hurried():
            return None
        started = time.perf_counter()
        try:
            client.local_storage.get_item("pace", timeout=PATIENCE_S)
        except TimeoutError:
            return None
        except RuntimeError:  # the tab is gone, or its browser keeps no storage
            return None
        times.append(time.perf_counter() - started)
    return min(times[1:])
