"""What every input of a folder of odd and hostile cases meets: read (with what notes), refused (why), or a fault.

Each case runs in a process of its own, with bounded memory and time. A fault is an exception that is not ours, a
crash, memory or time that ran out. Exit code 1 where there is one.

    python benchmarks/odd_inputs.py FOLDER [--only WORD]
"""

import argparse
import io
import multiprocessing
import os
import resource
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path

from partrm.errors import PartRMError

MEMORY_BYTES = 6 * 2**30
TIME_S = 60.0

Case = tuple[str, Callable[[], str]]
"""A name, and what reads the input and says in a line what it was."""


def cases(folder: Path) -> Iterator[Case]:
    """Every input below a folder that a loader of ours takes, judged by its name."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if "/ds/" in name or "/textured_objs/" in name:
            continue
        if path.is_dir():
            if path.name == "ds":
                yield name, lambda path=path: _check(path)
            elif (path / "mobility.urdf").is_file() or path.name == "set":
                yield name, lambda path=path: _source(path)
            continue
        reader = _reader(path, name)
        if reader is not None:
            yield name, lambda path=path, reader=reader: reader(path)


def _reader(path: Path, name: str) -> Callable[[Path], str] | None:
    ending = path.suffix.lower()
    if "mobility" in path.name and ending == ".urdf":
        return None
    if name.startswith(("fuzz/", "attack/fuzz/")):
        return _fuzzed(Path(name).parent.name)
    if ending in (".urdf", ".xml", ".sdf"):
        return _source
    if "images" in name or "tall" in name or ("eps/" in name and ending == ".png"):
        return _image if ending in (".png", ".jpg", ".gif") else None
    if ending == ".ply":
        return _ply
    if "cams/" in name:
        return _cameras
    return _view if "view" in name and ending in (".splat", ".spz", ".glb", ".usdz") else None


def _fuzzed(kind: str) -> Callable[[Path], str] | None:
    """The loader that a file below ``fuzz/`` is for, by the beginning of its folder's name."""
    word = kind.partition("_")[0]
    readers: dict[str, Callable[[Path], str]] = {
        "MJCF": _source, "URDF": _source, "MTL": _mtl, "OBJ": _obj, "cameras": _cameras, "config": _config,
        "entrypng": _entry_image, "image": _image, "manifest": _manifest, "mobility": _partnet_names,
        "npyvisible": _visible, "sample": _sample,
    }  # fmt: skip
    return readers.get(word)


def _source(path: Path) -> str:
    from partrm.datasets.sources import load_source, plan_sources

    said = []
    for source in plan_sources((str(path),), None, 0):
        try:
            obj = load_source(source)
        except PartRMError as error:
            said.append(f"refused: {error}")
            continue
        sizes = [float((p.vertices.max(0) - p.vertices.min(0)).max()) if len(p.vertices) else 0.0 for p in obj.parts]
        moving = [f"{j.lower:.3g}..{j.upper:.3g}" for p in obj.parts if (j := p.joint) is not None]
        notes = "; ".join(getattr(obj, "notes", ()))
        shown = " ".join(f"{x:.3g}" for x in sizes)
        said.append(f"read: parts {shown}, joints {' '.join(moving)}" + (f" | {notes}" if notes else ""))
    if all(line.startswith("refused") for line in said):
        raise PartRMError(" / ".join(line.removeprefix("refused: ") for line in said))
    return " / ".join(said)


def _image(path: Path) -> str:
    from partrm.imaging.images import frame_object, load_image

    framed = frame_object(load_image(path), 128)
    return f"read: scale {framed.scale:.3g}"


def _ply(path: Path) -> str:
    from partrm.geometry.gaussians import load_ply

    return f"read: {load_ply(path).means.shape[0]} Gaussians"


def _cameras(path: Path) -> str:
    from partrm.geometry.cameras import load_cameras

    cameras = load_cameras(path)
    return f"read: {cameras.batch_shape[0]} cameras of {cameras.width}x{cameras.height}"


def _config(path: Path) -> str:
    from partrm.model.checkpoints import load_model

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, Path(folder) / "config.json")
        load_model(folder)
    return "read"


def _check(path: Path) -> str:
    from partrm.datasets.check import check_dataset

    problems = [problem for found in check_dataset(path) for problem in found.problems]
    return f"checked: {len(problems)} problems" + (f"; {'; '.join(problems[:4])}" if problems else "")


def _entry_image(path: Path) -> str:
    from partrm.datasets.partdrag4d import load_rgba

    return f"read: {tuple(load_rgba(path).shape)}"


def _visible(path: Path) -> str:
    from partrm.datasets.partdrag4d import load_visible

    return f"read: {len(load_visible(path, 1000))}"


def _manifest(path: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, Path(folder) / "manifest.json")
        return _check(Path(folder))


def _partnet_names(path: Path) -> str:
    from partrm.objects.partnet import load_partnet

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, Path(folder) / "mobility_v2.json")
        (Path(folder) / "mobility.urdf").write_text("<robot name='x'/>")
        load_partnet(folder)
    return "read"


def _mtl(path: Path) -> str:
    from partrm.objects.mtl_format import load_mtl

    return f"read: {len(load_mtl(path))} materials"


def _obj(path: Path) -> str:
    from partrm.objects.obj_format import load_obj

    return f"read: {len(load_obj(path, {}).faces)} faces"


def _sample(path: Path) -> str:
    from partrm.evaluation.user_samples import simple_samples

    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "a"
        inner.mkdir()
        shutil.copy(path, inner / "sample.json")
        simple_samples(Path(folder))
    return "read"


def _view(path: Path) -> str:
    from partrm.viewer.sources import open_path

    return f"read: {type(open_path(path, 64)).__name__}"


def _run(case: Callable[[], str], answer: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        begun = time.perf_counter()
        try:
            with redirect_stdout(quiet), redirect_stderr(quiet):
                said = "ok", case()
        except PartRMError as error:
            said = "refused", str(error)
        except BaseException as error:
            said = "FAULT", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        left = [p.name for p in Path(folder).iterdir()]
        took = time.perf_counter() - begun
    lines = len(quiet.getvalue().strip().splitlines())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    extra = "".join([f" [{lines} lines printed]" if lines else "", f" [left {left}]" if left else ""])
    answer.send((said[0], said[1] + extra, took, peak))


def outcome(case: Callable[[], str], time_s: float = TIME_S) -> tuple[str, str, float, float]:
    """Verdict, words, seconds and peak memory in GiB of a case run in a process of its own."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(case, send))
    process.start()
    send.close()
    try:
        return receive.recv() if receive.poll(time_s) else ("FAULT", f"more than {time_s:.0f} s", time_s, 0.0)
    except EOFError:
        process.join()
        return "FAULT", f"the process died ({process.exitcode})", 0.0, 0.0
    finally:
        process.kill()
        process.join()


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    arguments = parser.parse_args()
    import partrm.datasets.check
    import partrm.datasets.sources
    import partrm.evaluation.user_samples
    import partrm.viewer.sources  # noqa: F401 - before the processes part

    faults = 0
    for name, case in cases(arguments.folder.absolute()):
        if arguments.only not in name or stat.S_ISFIFO(os.stat(arguments.folder / name).st_mode):
            continue
        verdict, words, took, peak = outcome(case)
        faults += verdict == "FAULT"
        words = words.replace(str(arguments.folder.absolute()) + "/", "").encode(errors="backslashreplace").decode()
        shown = name.encode(errors="backslashreplace").decode()
        print(f"{verdict:8} {shown}: {words} ({took:.1f} s, {peak:.1f} GiB)", flush=True)
    print(f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
