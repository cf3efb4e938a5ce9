"""What workers are given to do: in a module of its own, so that theirs is no more to import than they need."""

import importlib
import os
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from partrm.files import staged_file


def process_of(folder: str, device: str) -> int:
    """A task that notes its process and device, long enough for the others to start."""
    time.sleep(0.2)
    (Path(folder) / f"{os.getpid()}-{time.time_ns()}").write_text(device)
    return 1


def compiling(task: str, device: str) -> int:
    """Starts the mesh renderer, whose kernels have no cache."""
    importlib.import_module("partrm.rendering._warp.backend")
    return len(os.listdir(tempfile.gettempdir()))


def failing(task: str, device: str) -> int:
    raise OSError(28, "No space left on device")


def die_of_bad(root, config, task, device: str) -> int:
    """The build of whole objects, which the one called ``bad`` kills."""
    if task[0].mesh == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    from partrm.datasets.build import _build_whole

    return _build_whole(root, config, task, device)


def dying(task: str, device: str) -> int:
    os._exit(9)


def stop_with_an_open_pool(task: str, device: str) -> int:
    """Told to end before the pool of threads, which has done its work, could be closed."""
    pool = ThreadPoolExecutor(1)
    pool.submit(time.monotonic).result()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
    pool.shutdown()
    return 1


def fail_beside_a_writer(task: str, device: str) -> int:
    """Of two tasks one writes FILE, ``itself FILE`` or ``thread FILE``, for seconds; ``fail FILE`` fails meanwhile."""
    word, path = task.split()
    if word == "itself":
        _write_slowly(path, 60)
        return 1
    if word == "thread":
        pool = ThreadPoolExecutor(1)
        future = pool.submit(_write_slowly, path, 4)
        pool.shutdown(wait=False)
        future.result()
        return 1
    while not any(Path(path).parent.glob("*.part")):
        time.sleep(0.02)
    return failing(task, device)


def _write_slowly(path: str, seconds: float) -> None:
    with staged_file(path) as part:
        part.write_text("half")
        time.sleep(seconds)
        raise OSError("stays half-written")
