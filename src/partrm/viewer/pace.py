"""How quickly a tab's page draws, found out from how long it takes to answer."""

import time
from typing import Any

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


def answer_s(client: Any) -> float | None:
    """Least seconds that a page takes to answer a question; it answers between two frames. None: it does not.

    Software drawing of many splats shows here as whole frames of waiting. A page in the background answers at once.
    """
    times = []
    for _ in range(ASKED):
        started = time.perf_counter()
        try:
            client.local_storage.get_item("pace", timeout=PATIENCE_S)
        except TimeoutError:
            return None
        except RuntimeError:  # the tab is gone, or its browser keeps no storage
            return None
        times.append(time.perf_counter() - started)
    return min(times[1:])
