"""Who does the work of a build: a pool of processes on this machine (CPU cores or CUDA cards), or a Ray cluster."""

import gc
import logging
import os
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from multiprocessing.util import get_temp_dir
from types import FrameType
from typing import Any, Generic, Literal, TypeVar

import torch

from partrm.datasets import forkserver
from partrm.errors import ConfigError, PartRMError, require_ranges, show_our_warnings, told_shortage

Made = TypeVar("Made")

Work = Callable[[Any, str], Made]
"""``work(task, device)``: do a task on a torch device; what was made, or how much."""

GiveUp = Callable[[Any, str], Made]
"""``give_up(task, reason)``: what is to be done with a task that no worker survives; likewise."""

ONE_DIED = "a worker died (out of memory?); run again, with fewer workers"
DIED = "the process that worked on it died twice (out of memory, or a crash in a library)"


class ExecutorError(PartRMError):
    """Workers that cannot be had, or that died; the message says which and what to do."""


@dataclass(frozen=True)
class Workers:
    """Who works, and on what. What is made does not depend on it, but for the device's rounding."""

    executor: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: tasks on a Ray cluster whose nodes all see the output folder."""
    count: int | None = None
    """Most CPU tasks at once; without it 1 here, and as many as a Ray cluster has cores."""
    gpus: int = 0
    """CUDA cards; 0 works on the CPU."""
    per_gpu: int = 1
    """Processes that share a card."""
    ray_address: str | None = None
    """Address of a Ray cluster; without it the one of this machine, started if there is none."""

    def __post_init__(self) -> None:
        """Refuse numbers that nobody has.

        Raises:
            ConfigError: one out of its range, or settings that exclude each other.
        """
        require_ranges({"--gpus": (self.gpus, 0, 1024), "--workers-per-gpu": (self.per_gpu, 1, 64)})
        if self.count is not None and self.count < 1:
            raise ConfigError(f"--workers {self.count}: give 1 or more")
        if self.gpus and self.count is not None:
            raise ConfigError("--workers counts processes on CPUs; with --gpus give --workers-per-gpu")
        if self.ray_address is not None and self.executor != "ray":
            raise ConfigError("--ray-address needs --executor ray")

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Kind of device that the tasks run on."""
        return "cuda" if self.gpus else "cpu"


def device_slots(workers: Workers, present: int) -> tuple[str, ...]:
    """The torch device of each worker process of this machine, cards taken in turn.

    Args:
        present: CUDA cards of this machine.

    Raises:
        ExecutorError: more cards asked for than there are.
    """
    if workers.gpus > present:
        raise ExecutorError(f"--gpus {workers.gpus}: this machine has {present} CUDA cards")
    if workers.gpus:
        return tuple(f"cuda:{card}" for _ in range(workers.per_gpu) for card in range(workers.gpus))
    return ("cpu",) * (workers.count or 1)


def require_workers(workers: Workers) -> None:
    """Find what can be found out before any work is begun.

    Raises:
        ExecutorError: too few cards, Ray is not installed, or nothing listens at the cluster's address.
    """
    if workers.executor == "local":
        device_slots(workers, torch.cuda.device_count() if workers.gpus else 0)
        return
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExecutorError("--executor ray needs the package ray: pip install 'partrm[ray]'") from error
    _require_listener(workers.ray_address)


def run_tasks(
    work: Work[Made], tasks: Sequence[Any], workers: Workers, give_up: GiveUp[Made] | None = None
) -> Iterator[Made]:
    """Do every task somewhere; yields what ``work`` returns, in the order in which tasks end.

    A task whose worker dies is tried once more in another; then ``give_up`` is asked, or it is an error.

    Raises:
        ExecutorError: too few cards, Ray is not installed or cannot be reached, or a worker died.
        Exception: whatever ``work`` raised.
    """
    require_workers(workers)
    if workers.executor == "ray":
        return _on_ray(work, tasks, workers, give_up)
    return run_local(work, tasks, device_slots(workers, torch.cuda.device_count() if workers.gpus else 0), give_up)


def run_local(
    work: Work[Made], tasks: Sequence[Any], devices: Sequence[str], give_up: GiveUp[Made] | None = None
) -> Iterator[Made]:
    """One process a device of ``devices``, each pinned to it for good; see :func:`run_tasks`."""
    before, module = set(active_children()), getattr(work, "func", work).__module__
    require_room(min(len(devices), len(tasks)))
    with ExitStack() as stack, told_by_threads():
        pools = [_SoleWorker(stack, device, module) for device in devices[: len(tasks)]]
        free, waiting = list(range(len(pools))), deque(tasks)
        again: deque[Any] = deque()
        running: dict[Future[Made], tuple[int, Any, bool]] = {}
        try:
            while True:
                while free and (waiting or again):
                    slot, second = free.pop(0), not waiting
                    task = again.popleft() if second else waiting.popleft()
                    running[pools[slot].submit(work, task)] = slot, task, second
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    slot, task, second = running.pop(future)
                    free.append(slot)
                    try:
                        yield future.result()
                    except BrokenProcessPool as error:
                        pools[slot] = _SoleWorker(stack, devices[slot], module)
                        if give_up is None:
                            message = told_shortage(error) or ONE_DIED
                            raise ExecutorError(message) from error
                        if second:
                            yield give_up(task, DIED)
                        else:
                            again.append(task)
        except BaseException:
            end_new_children(before)
            raise


def end_new_children(before: set[Any]) -> None:
    """End the workers of a build that was stopped: none goes on with its task, each removes its temporary files."""
    for child in set(active_children()) - before:
        child.terminate()


THREADS, THREADS_A_WORKER = 8, 6
"""Processes and threads that workers need: those that fork and track, and each with what manages it here."""

FILES, FILES_A_WORKER = 24, 12
"""Likewise of open files."""


def require_room(workers: int) -> None:
    """Find out whether so many processes can be started: else some wait for others without end.

    Raises:
        ExecutorError: they cannot.
    """
    done, started, opened = threading.Event(), list[threading.Thread](), list[int]()
    try:
        for _ in range(THREADS + THREADS_A_WORKER * workers if workers else 0):
            started.append(threading.Thread(target=done.wait, daemon=True))
            started[-1].start()
        for _ in range(FILES + FILES_A_WORKER * workers if workers else 0):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except (RuntimeError, OSError) as error:
        started.pop() if isinstance(error, RuntimeError) else None
        why = told_shortage(error) or str(error)
        raise ExecutorError(f"{workers} workers cannot be started: {why}") from error
    finally:
        done.set()
        for thread in started:
            thread.join()
        for number in opened:
            os.close(number)


@contextmanager
def told_by_threads() -> Iterator[None]:
    """While it lasts what waits for a pool of processes is told when the thread dies that manages the pool."""
    usual = threading.excepthook

    def tell(died: threading.ExceptHookArgs) -> None:
        waiting = getattr(died.thread, "pending_work_items", None)
        if waiting is None:
            usual(died)
            return
        for item in list(waiting.values()):
            item.future.set_exception(BrokenProcessPool(str(died.exc_value)))

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = usual


def worker_context(module: str) -> BaseContext:
    """How processes are started that do not inherit what PyTorch and Warp, which survive no fork, have begun here.

    Where the system can, they are forked from one process that has imported PyTorch and ``module`` and has done nothing
    else: seconds of imports are paid once, not by every worker.

    Args:
        module: of the work; what counts is the first one that a process asks for.

    Raises:
        ExecutorError: there is no folder for the sockets of these processes.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([forkserver.__name__, "torch", module])
    _choose_folder_of_sockets()
    return context


SOCKET_NAME_BYTES = 103
"""Most bytes of the name of a Unix socket; Linux takes four more."""

SOCKET_BELOW = os.path.join("", "pymp-12345678", "listener-12345678")
"""Where multiprocessing puts a socket below the folder of temporary files."""

SHORT_FOLDERS = ("/tmp", "/dev/shm")
"""Where sockets go instead if the name of that folder leaves them too little room."""


def _choose_folder_of_sockets() -> None:
    """Let multiprocessing keep its sockets elsewhere if the folder of temporary files has too long a name.

    Raises:
        ExecutorError: there is no folder for them.
    """
    try:
        usual = tempfile.gettempdir()
    except OSError as error:
        raise ExecutorError(f"workers need a folder for temporary files ({error.strerror})") from error
    room = SOCKET_NAME_BYTES - len(f"/{SOCKET_BELOW}")
    if len(os.fsencode(usual)) <= room:
        return
    short = next((folder for folder in SHORT_FOLDERS if os.access(folder, os.W_OK | os.X_OK)), None)
    if short is None:
        message = f"workers keep sockets among the temporary files, and TMPDIR={usual} leaves no room for their names"
        raise ExecutorError(f"{message}: give a folder whose name has at most {room} bytes")
    try:
        tempfile.tempdir = short
        get_temp_dir()  # what it says once is kept for the whole process
    except OSError as error:
        raise ExecutorError(f"workers cannot keep sockets in {short} ({error.strerror})") from error
    finally:
        tempfile.tempdir = usual


NOT_STARTED = (EOFError, OSError, BrokenProcessPool)
"""What giving work to a process raises where it, or the one that forks it, has just died; the next is a new one."""


def why_not_started(error: BaseException) -> str:
    """The cause of an error of :data:`NOT_STARTED`, in a few words."""
    words = error.strerror or str(error) if isinstance(error, OSError) else ""
    return words or "the process that forks them died"


def given_out(
    pool: ProcessPoolExecutor, work: Callable[[Any], Made], tasks: Iterable[Any], size: int = 1
) -> Iterator[Made]:
    """``pool.map``, so many tasks at a time.

    Raises:
        ExecutorError: its processes cannot be started.
    """
    try:
        return pool.map(work, tasks, chunksize=size)
    except NOT_STARTED as error:
        message = f"workers cannot be started ({why_not_started(error)}); run again, with fewer workers"
        raise ExecutorError(message) from error


class _SoleWorker(Generic[Made]):
    """A process of its own for a device, until the stack is closed."""

    def __init__(self, stack: ExitStack, device: str, module: str) -> None:
        self._stack, self._device, self._module = stack, device, module
        self._pool = self._started()

    def _started(self) -> ProcessPoolExecutor:
        context = worker_context(self._module)
        return self._stack.enter_context(
            ProcessPoolExecutor(1, context, initializer=_start_worker, initargs=(self._device,))
        )

    def submit(self, work: Work[Made], task: Any) -> "Future[Made]":
        """Give it a task.

        Raises:
            ExecutorError: no process can be started.
        """
        try:
            return self._pool.submit(_do, work, task, self._device)
        except NOT_STARTED:
            self._pool = self._started()
        try:
            return self._pool.submit(_do, work, task, self._device)
        except NOT_STARTED as error:
            message = f"workers cannot be started ({why_not_started(error)}); run again, with fewer workers"
            raise ExecutorError(message) from error


def _start_worker(device: str) -> None:
    show_our_warnings("partrm, a worker")
    torch.set_num_threads(1)
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
    signal.signal(signal.SIGTERM, _stop)
    end_with_parent()


def _stop(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not cut the cleaning short
    raise SystemExit(128 + number)


def _do(work: Work[Made], task: Any, device: str) -> Made:
    """Do a task in a worker; one that is told to end does so when the task and its threads have cleaned up."""
    try:
        return work(task, device)
    except SystemExit as stop:  # the pool would send it back as an answer
        # A thread pool that was stopped before it could close waits until nobody knows it, as the stopped frames do.
        stop.__traceback__ = stop.__context__ = None
        gc.collect()
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        os._exit(stop.code if isinstance(stop.code, int) else 1)


def end_with_parent() -> None:
    """From now on this process ends when its parent does: a killed command leaves no workers beside the next one."""
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    try:
        threading.Thread(target=follow, daemon=True).start()
    except RuntimeError:  # there is no room for a thread; whoever waits is told that the worker died
        os._exit(1)


def _on_ray(work: Work[Made], tasks: Sequence[Any], workers: Workers, give_up: GiveUp[Made] | None) -> Iterator[Made]:
    with on_ray(workers):
        yield from _ray_tasks(work, tasks, workers, give_up)


@contextmanager
def on_ray(workers: Workers) -> Iterator[Any]:
    """The package ``ray``, connected to the cluster while the block runs.

    Raises:
        ExecutorError: no such cluster.
    """
    import ray

    ours = not ray.is_initialized()
    if ours:
        # Else it waits for its first workers, and without end if one of them dies meanwhile.
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        try:
            ray.init(address=workers.ray_address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            where, words = workers.ray_address or "this machine", " ".join(str(error).split())
            advice = "; set RAY_TMPDIR to a folder with a shorter name" if "AF_UNIX path" in words else ""
            raise ExecutorError(f"no Ray cluster at {where} ({words[:200]}){advice}") from error
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _require_listener(address: str | None) -> None:
    """Ray itself tries for many minutes to reach an address where nothing is."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ExecutorError(f"no Ray cluster at {address} ({error.strerror or error})") from error


def ray_tasks_at_once(workers: Workers, there: Mapping[str, float]) -> int:
    """How many tasks run at once on a Ray cluster.

    Args:
        workers: what is asked for.
        there: what the cluster has.

    Raises:
        ExecutorError: it has fewer cards.
    """
    if there.get("GPU", 0) < workers.gpus:
        raise ExecutorError(f"--gpus {workers.gpus}: the Ray cluster has {there.get('GPU', 0):g}")
    return workers.gpus * workers.per_gpu or workers.count or max(1, int(there.get("CPU", 1)))


def _ray_tasks(
    work: Work[Made], tasks: Sequence[Any], workers: Workers, give_up: GiveUp[Made] | None
) -> Iterator[Made]:
    import ray
    from ray.exceptions import OutOfMemoryError, RayError, WorkerCrashedError

    at_once = ray_tasks_at_once(workers, ray.cluster_resources())
    # Ray shows a task only the card that it may use, as number 0.
    device = "cuda:0" if workers.gpus else "cpu"
    remote = ray.remote(num_cpus=1, num_gpus=1 / workers.per_gpu if workers.gpus else 0)(_ray_task)
    waiting, running = iter(tasks), {}
    while True:
        while len(running) < at_once and (task := next(waiting, None)) is not None:
            running[remote.remote(work, task, device)] = task
        if not running:
            return
        (finished,), _ = ray.wait(list(running), num_returns=1)
        task = running.pop(finished)
        try:
            yield ray.get(finished)
        except RayError as error:
            if give_up is not None and isinstance(error, (WorkerCrashedError, OutOfMemoryError)):
                yield give_up(task, DIED)  # Ray itself has tried again
                continue
            cause = getattr(error, "cause", error)
            if not isinstance(cause, RayError):
                raise cause from error
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
            raise ExecutorError(f"a Ray worker failed ({lines[-1]}); every node needs partrm; run again") from error


def _ray_task(work: Work[Made], task: Any, device: str) -> Made:
    torch.set_num_threads(1)
    return work(task, device)
