"""The network, shared by all tabs, one prediction at a time; and requests that later ones of a tab outdate."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from partrm.inference.part_search import FoundPart, find_parts
from partrm.inference.pipeline import predict
from partrm.inference.prediction import Prediction
from partrm.inference.source import SourceViews, check_drags
from partrm.model.checkpoints import LoadedModel

FAST_S = 0.15
"""A device whose predictions take less shows the part while the drag is still held."""


class Engine:
    """Runs predictions of all tabs one after another."""

    def __init__(self, model: LoadedModel | Callable[[], LoadedModel]) -> None:
        """An engine of a network, or of one that is loaded by a call when it is first needed."""
        self._model = model
        self._loading, self._turn = threading.Lock(), threading.Lock()
        self._recent_s: deque[float] = deque(maxlen=5)

    @property
    def model(self) -> LoadedModel:
        """The network.

        Raises:
            CheckpointError: it is loaded only now, and its weights cannot be used.
        """
        with self._loading:
            if not isinstance(self._model, LoadedModel):
                self._model = self._model()
            return self._model

    @property
    def size_px(self) -> int:
        """Side of the network's images."""
        return self.model.config.image_size_px

    @property
    def fast(self) -> bool:
        """Whether recent predictions were quick enough to be made during a drag."""
        return len(self._recent_s) > 1 and sorted(self._recent_s)[len(self._recent_s) // 2] < FAST_S

    def predict(
        self,
        views: SourceViews,
        drags_px: Sequence[Sequence[float]],
        wanted: Callable[[], bool] = lambda: True,
        ensemble: bool = True,
    ) -> Prediction | None:
        """One prediction for drags in the pixels of the user's picture; waits for its turn.

        Args:
            views: the picture.
            drags_px: rows (x0, y0, x1, y1).
            wanted: asked when its turn comes; if not, because its tab was closed or asks for another, it is None.
            ensemble: of a single image, whether the network is asked in other ways too.

        Raises:
            DragError: drags that cannot be used.
            CheckpointError: a network that does not tell parts and joints.
        """
        checked = check_drags(drags_px, views)
        with self._turn:
            if not wanted():
                return None
            started = time.perf_counter()
            prediction = predict(views, checked, self.model, ensemble, close=True)
            self._recent_s.append(time.perf_counter() - started)
        return prediction

    def find_parts(
        self, views: SourceViews, wanted: Callable[[], bool], advance: Callable[[int, int], None]
    ) -> tuple[FoundPart, ...]:
        """The parts that seem to move, once it is its turn; none where they are wanted no more.

        Raises:
            NoPartsError: nothing is found.
            PartNetworkError: weights of another shape than the bundled ones.
        """
        with self._turn:
            return find_parts(views, self.model, advance=advance) if wanted() else ()


class Generation:
    """Counts the requests of one sort; the newest alone is wanted. Any thread may ask."""

    def __init__(self) -> None:
        self._number = 0
        self._lock = threading.Lock()

    @property
    def number(self) -> int:
        """Of the newest request."""
        return self._number

    @property
    def current(self) -> "Request":
        """The newest request, 0 before the first."""
        return Request(self, self._number)

    def next(self) -> "Request":
        """A request that outdates all before it."""
        with self._lock:
            self._number += 1
            return self.current


@dataclass(frozen=True)
class Request:
    """One request of a generation."""

    generation: Generation
    number: int
    """Counts from 1."""

    @property
    def outdated(self) -> bool:
        """Whether another was made since."""
        return self.number != self.generation.number
