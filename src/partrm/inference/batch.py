"""Many objects through the network: several at once, what comes before and after it in threads beside it."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, Literal, TypeVar

import torch

from partrm.errors import PartRMError, require_ranges
from partrm.geometry.cameras import Cameras
from partrm.imaging.decoding import ImageInput
from partrm.imaging.photos import Method
from partrm.inference.part_search import MIN_CONFIDENCE, FoundPart, NoPartsError, Sought, pulls_on
from partrm.inference.pipeline import Prepared, ask_network, finish, finish_all
from partrm.inference.prediction import Prediction
from partrm.inference.reading import together
from partrm.inference.source import DragInput, DragPixels, SourceInput, SourceViews
from partrm.model.checkpoints import LoadedModel

Answer = Prediction | tuple[FoundPart, ...]
"""To drags; or the parts found without one, the surest first."""

Asked = TypeVar("Asked")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """One question of a batch: the arguments of :meth:`partrm.PartRM.predict`, and a name.

    With ``parts`` those of :meth:`partrm.PartRM.find_parts`, and no drags.
    """

    image: SourceInput | SourceViews
    drags: DragInput | DragPixels = ()
    name: str = ""
    framing: Literal["auto", "canonical"] = "auto"
    cameras: Cameras | None = None
    box: tuple[float, float, float, float] | None = None
    mask: ImageInput | None = None
    cutout: Method = "auto"
    fovy_deg: float | None = None
    ensemble: bool = True
    detail_px: int | None = None
    parts: bool = False
    """Find the parts without a drag; the network is always asked in several ways then."""
    min_confidence: float = MIN_CONFIDENCE
    """Parts below it are left out, [0, 1]."""


@dataclass(frozen=True)
class Steps(Generic[Asked, Result]):
    """What is done in threads with each job, before the network and after it."""

    opened: Callable[[Asked], Prepared | Sought]
    """Raises a ``PartRMError`` where the job cannot be done."""
    ended: Callable[[Asked, Answer], Result]
    """Likewise."""


def predict_many(
    jobs: Iterable[Asked], steps: Steps[Asked, Result], model: LoadedModel, batch: int, threads: int
) -> Generator[tuple[Asked, Result | PartRMError], None, None]:
    """Every job with its result, or with the error that it ends in, in the order of the jobs.

    ``batch`` jobs in a row share a pass of the network, whatever is already done, so that the same jobs give the same
    bits. At most four times ``batch`` jobs are in memory. Parts that are found are asked about ``batch`` at a time.

    Args:
        jobs: taken as they are needed.
        steps: before and after the network.
        model: the weights.
        batch: jobs in a pass of the network, 1 to 256.
        threads: that open and end jobs, 1 to 256.

    Raises:
        ConfigError: a number out of its range.
        Exception: whatever ``jobs``, or a step that fails of no ``PartRMError``, raised.
    """
    require_ranges({"batch": (batch, 1, 256), "threads": (threads, 1, 256)})
    waiting, own_threads = iter(jobs), torch.get_num_threads()
    if together(next(model.network.parameters()).device):
        # What is left to the CPU then is small: more threads would wait for it on the cores of the pool's.
        torch.set_num_threads(1)
    # Each takes one core: torch would give each of them as many threads again as there are cores.
    pool = ThreadPoolExecutor(threads, "partrm-batch", torch.set_num_threads, (1,))
    opening: deque[tuple[Asked, Future[Prepared | Sought]]] = deque()
    ending: deque[tuple[Asked, Future[Result] | PartRMError]] = deque()
    try:
        while True:
            opening.extend((job, pool.submit(steps.opened, job)) for job in islice(waiting, 2 * batch - len(opening)))
            group = [opening.popleft() for _ in range(min(batch, len(opening)))]
            ending.extend(_asked(group, steps, model, pool, batch))
            while len(ending) > (batch if group else 0):
                job, result = ending[0]
                outcome = result if isinstance(result, PartRMError) else _outcome(result)
                ending.popleft()
                yield job, outcome
            if not group:
                return
    finally:
        # Not by waiting for the threads: before Python 3.13 a signal then lets them count as ended while they write.
        pool.shutdown(wait=False, cancel_futures=True)
        known: list[Future[Any] | PartRMError] = [one for _, one in (*opening, *ending)]
        wait([one for one in known if isinstance(one, Future) and not one.cancelled()])
        pool.shutdown()
        torch.set_num_threads(own_threads)


def _asked(
    group: list[tuple[Asked, Future[Prepared | Sought]]],
    steps: Steps[Asked, Result],
    model: LoadedModel,
    pool: ThreadPoolExecutor,
    batch: int,
) -> list[tuple[Asked, Future[Result] | PartRMError]]:
    """The jobs of one pass of the network, their ends begun."""
    prepared = [(job, _outcome(future)) for job, future in group]
    ends = iter(_ends([one for _, one in prepared if isinstance(one, Prepared)], model))
    finds = iter(_finds([one for _, one in prepared if isinstance(one, Sought)], model, batch))

    def end(job: Asked, answer: Callable[[], Answer]) -> Result:
        return steps.ended(job, answer())

    begun: list[tuple[Asked, Future[Result] | PartRMError]] = []
    for job, one in prepared:
        answer = one if isinstance(one, PartRMError) else next(ends if isinstance(one, Prepared) else finds)
        begun.append((job, answer if isinstance(answer, PartRMError) else pool.submit(end, job, answer)))
    return begun


def _ends(ready: Sequence[Prepared], model: LoadedModel) -> list[Callable[[], Prediction]]:
    """The network asked; what a thread does to have each prediction on the CPU."""
    if not ready:
        return []
    consultations, seconds = ask_network(ready, model)
    if together(consultations[0].inputs.images.device):
        return [found.on_cpu for found in finish_all(ready, consultations, model, seconds)]
    told = zip(ready, consultations, strict=True)
    return [partial(finish, one, consultation, model, seconds) for one, consultation in told]


def _finds(
    sought: Sequence[Sought], model: LoadedModel, batch: int
) -> list[Callable[[], tuple[FoundPart, ...]] | PartRMError]:
    """The same for the parts of objects, or that there are none."""
    pulls = pulls_on(sought, model)
    asked = [pull.prepared for own in pulls for pull in own]
    passes = [asked[first : first + batch] for first in range(0, len(asked), batch)]
    ends = iter([end for own in passes for end in _ends(own, model)])

    def found(own: list[tuple[Callable[[], Prediction], float]]) -> tuple[FoundPart, ...]:
        return tuple(FoundPart(end(), confidence) for end, confidence in own)

    told = [[(next(ends), pull.confidence) for pull in own] for own in pulls]
    return [partial(found, own) if own else NoPartsError() for own in told]


def _outcome(future: "Future[Result]") -> Result | PartRMError:
    """What a thread made, or why it could not."""
    try:
        return future.result()
    except PartRMError as error:
        return error
