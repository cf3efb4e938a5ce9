"""Where the work of a build is done never shows in what it writes; devices are spread evenly and pinned."""

import multiprocessing.queues
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Listener
from pathlib import Path

import pytest
from support.boxes import cabinet
from support.jobs import tree
from support.ranks import begun
from support.tasks import dying, fail_beside_a_writer, failing, process_of, stop_with_an_open_pool

from partrm.datasets import executors, forkserver
from partrm.datasets.build import build
from partrm.datasets.executors import ExecutorError, Workers, device_slots, run_local, run_tasks, worker_context
from partrm.datasets.object_writer import BuildConfig
from partrm.objects.partnet import save_partnet

pytest.importorskip("warp")

pytestmark = pytest.mark.usefixtures("forking")

SMALL = BuildConfig(size_px=48, views=2, states=2, distractors=0, points=200)


def folders(tmp_path: Path, count: int = 3) -> tuple[str, ...]:
    pytest.importorskip("yourdfpy", reason="PartNet-Mobility folders need an extra: pip install 'partrm[data]'")
    for index in range(count):
        save_partnet(cabinet(), tmp_path / "objects" / f"{index}")
    return (str(tmp_path / "objects"),)


def test_devices_are_taken_in_turn():
    assert device_slots(Workers(), 0) == ("cpu",)
    assert device_slots(Workers(count=3), 8) == ("cpu", "cpu", "cpu")
    assert device_slots(Workers(gpus=2, per_gpu=2), 8) == ("cuda:0", "cuda:1", "cuda:0", "cuda:1")
    with pytest.raises(ExecutorError, match="has 1 CUDA cards"):
        device_slots(Workers(gpus=2), 1)


def test_each_process_keeps_one_device_and_all_get_work(tmp_path):
    # Devices that need no card: torch knows "meta" everywhere.
    assert sum(run_local(process_of, [str(tmp_path)] * 9, ("cpu", "meta"))) == 9
    seen: dict[str, set[str]] = {}
    for path in tmp_path.iterdir():
        seen.setdefault(path.name.split("-")[0], set()).add(path.read_text())
    assert sorted(seen.values(), key=str) == [{"cpu"}, {"meta"}]


def test_what_a_worker_raises_comes_back_and_a_dead_one_is_named():
    with pytest.raises(OSError, match="No space left"):
        list(run_tasks(failing, ["a"], Workers(count=2)))
    with pytest.raises(ExecutorError, match="a worker died"):
        list(run_local(dying, ["a"], ("cpu",)))


def test_a_worker_that_is_stopped_waits_for_no_thread_without_work():
    began = time.perf_counter()
    with pytest.raises(ExecutorError, match="a worker died"):
        list(run_local(stop_with_an_open_pool, ["a"], ("cpu",)))
    assert time.perf_counter() - began < 50


@pytest.mark.parametrize("writer", ["itself", "thread"])
def test_a_worker_that_is_stopped_for_the_failure_of_another_leaves_no_temporary_file(writer, tmp_path):
    began = time.perf_counter()
    with pytest.raises(OSError, match="No space left"):
        list(run_local(fail_beside_a_writer, [f"{writer} {tmp_path}/a", f"fail {tmp_path}/a"], ("cpu", "cpu")))
    assert time.perf_counter() - began < 60
    assert list(tmp_path.iterdir()) == []


def start(script: Path, code: str, stderr: int | None = None, **environment: str) -> subprocess.Popen[bytes]:
    """A process of its own that runs some code."""
    lines = ["from support.tasks import compiling, process_of", "from partrm.datasets.executors import run_local", code]
    script.write_text("if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in lines))
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    return subprocess.Popen([sys.executable, str(script)], env=environment, stderr=stderr)


def wait_for(what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Names of sockets have at most 107 characters, which pytest's own folders leave no room for."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_build_leaves_no_workers_and_nothing_among_the_temporary_files(how, tmp_path, short_folder):
    """multiprocessing keeps a socket there, which the killed process cannot remove."""
    done, temporary = tmp_path / "done", short_folder
    done.mkdir()

    def workers():
        return {int(path.name.split("-")[0]) for path in done.iterdir()}

    code = f"list(run_local(process_of, [{str(done)!r}] * 999, ('cpu', 'cpu')))"
    run = start(tmp_path / "main.py", code, TMPDIR=str(temporary))
    wait_for(lambda: len(workers()) == 2 or run.poll() is not None, 60)
    assert list(temporary.iterdir())
    run.send_signal(how)
    run.wait()
    started = workers()
    assert len(started) == 2
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), 30)
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    wait_for(lambda: not list(temporary.iterdir()), 20)
    assert list(temporary.iterdir()) == []


def test_workers_without_a_cache_of_kernels_say_so_in_a_line_and_leave_no_folder_of_them(tmp_path, short_folder):
    code = "print(list(run_local(compiling, ['a'], ('cpu',))))"
    script = tmp_path / "main.py"
    done = start(script, code, stderr=subprocess.PIPE, TMPDIR=str(short_folder), WARP_CACHE_PATH="/proc/none")
    said = done.communicate()[1].decode()
    assert re.fullmatch(r"partrm, a worker: kernels are compiled anew at each start: .*\n", said), said
    assert done.returncode == 0
    assert list(short_folder.iterdir()) == []


def bind_a_socket(folder: str, answer: str) -> None:
    """Have multiprocessing name a socket where ``folder`` is that of temporary files; writes where it lies."""
    tempfile.tempdir = folder
    worker_context("support.tasks")
    with Listener(family="AF_UNIX") as listener:
        Path(answer).write_text(f"{listener.address} {tempfile.gettempdir()}")


@pytest.mark.parametrize("letters", [10, 100])
def test_sockets_go_elsewhere_where_the_temporary_folder_has_too_long_a_name(letters, short_folder, tmp_path):
    """A name of a socket has at most 107 bytes; the temporary files stay where they were."""
    (folder := short_folder / ("x" * letters)).mkdir()
    begun(bind_a_socket, str(folder), str(tmp_path / "answer")).join()
    address, temporary = (tmp_path / "answer").read_text().split()
    assert address.startswith(f"{folder}/") == (letters == 10)
    assert temporary == str(folder)


def test_without_any_folder_for_sockets_the_cause_is_told(short_folder, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(short_folder / ("x" * 100)))
    monkeypatch.setattr(executors, "SHORT_FOLDERS", (str(short_folder / "nothing"),))
    with pytest.raises(ExecutorError, match=r"TMPDIR=.*xxx leaves no room for their names: .* at most 71 bytes"):
        worker_context("support.tasks")
    monkeypatch.setattr(executors, "SHORT_FOLDERS", (str(short_folder),))
    monkeypatch.setattr(executors, "get_temp_dir", lambda: failing("", ""))
    with pytest.raises(ExecutorError, match=r"workers cannot keep sockets in .* \(No space left on device\)"):
        worker_context("support.tasks")
    assert tempfile.tempdir == str(short_folder / ("x" * 100))


def test_workers_are_started_anew_where_the_process_that_forks_them_has_died(tmp_path, monkeypatch):
    started = ProcessPoolExecutor.submit
    deaths = iter([EOFError("unexpected EOF")])

    def submit(pool, *words):
        if (death := next(deaths, None)) is not None:
            raise death
        return started(pool, *words)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    assert list(run_local(process_of, [str(tmp_path)] * 2, ("cpu",))) == [1, 1]
    deaths = iter([BrokenProcessPool(), ConnectionRefusedError(111, "Connection refused")])
    with pytest.raises(ExecutorError, match=r"workers cannot be started \(Connection refused\)"):
        list(run_local(process_of, [str(tmp_path)], ("cpu",)))


def test_workers_without_room_for_their_threads_are_refused_before_any_begins(monkeypatch, tmp_path):
    started, room = threading.Thread.start, iter(range(10))

    def start(thread):
        if next(room, None) is None:
            raise RuntimeError("can't start new thread")
        started(thread)

    before = threading.active_count()
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(ExecutorError, match=r"2 workers cannot be started: .*can't start new thread.*ulimit -u"):
        list(run_local(process_of, [str(tmp_path)] * 2, ("cpu", "cpu")))
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_workers_without_room_for_their_files_are_refused(monkeypatch, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        with pytest.raises(ExecutorError, match=r"1 workers cannot be started: too many files are open.*ulimit -n"):
            list(run_local(process_of, [str(tmp_path)], ("cpu",)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thread_that_dies_while_it_manages_workers_ends_the_wait_for_them(monkeypatch, tmp_path):
    """What cannot start is the thread that hands tasks to the worker."""

    def start(queue):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(multiprocessing.queues.Queue, "_start_thread", start)
    with pytest.raises(ExecutorError, match=r"can't start new thread.*ulimit -u"):
        list(run_local(process_of, [str(tmp_path)], ("cpu",)))


def test_the_process_that_forks_leaves_the_folder_of_sockets_to_a_command_that_lives(tmp_path):
    forkserver._remove(str(tmp_path), os.getpid(), os.getppid())
    assert tmp_path.exists()
    forkserver._remove(str(tmp_path), os.getpid(), -1)
    assert not tmp_path.exists()


def test_the_process_that_forks_waits_for_the_end_of_a_command_that_dies(monkeypatch, tmp_path):
    """A process closes its files, by which the end of a command is seen, before it is gone."""
    parents = iter([7, 7, 7, 1, 1])
    monkeypatch.setattr(forkserver.os, "getppid", lambda: next(parents))
    forkserver._remove(str(tmp_path), os.getpid(), 7)
    assert not tmp_path.exists()


def test_the_number_of_processes_does_not_show(tmp_path):
    words = folders(tmp_path)
    build(words, tmp_path / "one", SMALL)
    build(words, tmp_path / "two", SMALL, workers=Workers(count=2))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExecutorError, match=r"partrm\[ray\]"):
        list(run_tasks(failing, ["a"], Workers("ray")))


def test_an_address_without_a_cluster_is_named_at_once():
    pytest.importorskip("ray", reason="the Ray executor is an extra: pip install 'partrm[ray]'")
    with pytest.raises(ExecutorError, match=r"no Ray cluster at 127\.0\.0\.1:9"):
        list(run_tasks(failing, ["a"], Workers("ray", ray_address="127.0.0.1:9")))


def test_a_folder_too_long_for_sockets_of_ray_is_named(monkeypatch):
    ray = pytest.importorskip("ray", reason="the Ray executor is an extra: pip install 'partrm[ray]'")

    def init(**_):
        assert os.environ[setting] == "0", "else a worker that dies at the start is waited for without end"
        raise OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /xxx")

    monkeypatch.delenv(setting := "RAY_prestart_worker_first_driver", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ExecutorError, match=r"107 bytes: /xxx\); set RAY_TMPDIR"):
        list(run_tasks(failing, ["a"], Workers("ray")))


@pytest.mark.gpu
def test_a_build_spread_over_the_cards_is_sound(tmp_path):
    import torch

    from partrm.datasets.check import check_dataset

    workers = Workers(gpus=torch.cuda.device_count(), per_gpu=2)
    result = build(folders(tmp_path), tmp_path / "data", SMALL, workers=workers)
    assert (result.objects, result.refused) == (3, ())
    assert [text for found in check_dataset(tmp_path / "data") for text in found.problems] == []
