"""Every URDF and MuJoCo file of installed packages, loaded and built: read, refused (why), or a fault.

    make real-files                                          (installs the packages of real_files.txt first)
    python benchmarks/real_files.py outputs/real_files [--only WORD] [--processes 2]

Each file is loaded as ``partrm data build FILE --limit 1`` loads it, and the first of its states is written with small
images, in a process of its own, with bounded memory and time; where it names files outside of its folder, once more
with ``--allow-outside`` for its package. Prints a table by package, then the reasons by kind; FOLDER/files.tsv tells of
every file; those in it are not tried again. Exit code 1 where there is a fault: an exception that is not ours, a crash,
memory or time that ran out.
"""

import argparse
import re
import resource
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import Distribution, distributions
from pathlib import Path

from odd_inputs import outcome

from partrm.datasets.object_writer import BuildConfig, ObjectWriter
from partrm.datasets.sources import plan_sources
from partrm.objects.articulated_object import ObjectError
from partrm.objects.descriptions import root_of

SMALL = BuildConfig(size_px=64, views=1, states=2, distractors=0, points=200)
ROOTS = ("robot", "mujoco", "mujocoinclude")
LIBRARIES = ("mujoco", "scipy.spatial", "trimesh", "warp", "yourdfpy")
"""Imported once, before the processes part."""
TIME_S, CPU_S = 600.0, 100
OUTSIDE = "[outside]"
"""Begins the words of a file that is read with ``--allow-outside`` alone."""


@dataclass(frozen=True)
class Found:
    """A description in a package."""

    package: str
    path: Path
    root: Path
    """Folder of the package."""


def descriptions(folder: Path) -> Iterator[Found]:
    """Descriptions of all packages installed in a folder."""
    for package in sorted(distributions(path=[str(folder)]), key=_title):
        files = (Path(str(package.locate_file(file))) for file in package.files or ())
        for path in sorted(file for file in files if file.suffix.lower() in (".urdf", ".xml")):
            if path.suffix.lower() == ".urdf" or root_of(path) in ROOTS:
                yield Found(_title(package), path, folder / path.relative_to(folder).parts[0])


def _title(package: Distribution) -> str:
    return f"{package.metadata['Name']} {package.version}"


def made(found: Found) -> str:
    """Load and build one file; what it is, in a line."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    try:
        return _built(found, ())
    except ObjectError as error:
        if "--allow-outside" not in str(error):
            raise
    return f"{OUTSIDE} {_built(found, (found.root,))}"


def _built(found: Found, outside: tuple[Path, ...]) -> str:
    (source,) = plan_sources((str(found.path),), 1, 0, outside)
    obj = source.load()
    with tempfile.TemporaryDirectory() as folder:
        next(ObjectWriter(Path(folder), obj, SMALL).write())
    faces = sum(len(part.faces) for part in obj.parts)
    return f"{len(obj.movable)} joints, {faces} faces" + "".join(f"; {note}" for note in obj.notes)


def kind_of(reason: str) -> str:
    """A reason without what differs from file to file."""
    plain = re.sub(r"^(FAULT|refused)? ?(\[outside\] )?\S+\.(xml|urdf): ", "", reason, flags=re.IGNORECASE)
    plain = re.sub(r"'[^']*'|\"[^\"]*\"", "…", plain)
    plain = re.sub(r"/\S+", "…", plain)
    plain = re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "N", plain)
    return plain[:160]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="files whose path holds this word")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    for library in LIBRARIES:
        import_module(library)
    rows = folder / "files.tsv"
    known = {row[1] for row in _rows(rows)}
    files = [found for found in descriptions(folder) if arguments.only in str(found.path)]
    files = [found for found in files if str(found.path.relative_to(folder)) not in known]
    with ThreadPoolExecutor(arguments.processes) as pool, rows.open("a") as file:
        for found, result in zip(files, pool.map(lambda f: outcome(partial(made, f), TIME_S), files), strict=True):
            verdict, words, seconds, peak = result
            words = words.replace(f"{folder}/", "").replace("\t", " ")
            row = (found.package, str(found.path.relative_to(folder)), verdict, words, f"{seconds:.1f}", f"{peak:.1f}")
            print(*row, sep="\t", file=file, flush=True)
    return tables(_rows(rows))


def _rows(path: Path) -> list[list[str]]:
    """Package, file, verdict, words, seconds and GiB of the files that were tried."""
    return [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []


def tables(rows: list[list[str]]) -> int:
    """Print what became of the files of each package, and the reasons by kind; 1 if there is a fault."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for package, name, verdict, words, *_ in sorted(rows):
        for one in (counts[package], counts["all"]):
            one.update([verdict, *(["outside"] if words.startswith(OUTSIDE) else [])])
        if verdict != "ok":
            reasons[f"{verdict} {kind_of(words)}"].append(name)
    counts["all"] = counts.pop("all", Counter())
    print(
        "| package | files | built | of these with --allow-outside | refused | faults |\n|---|---:|---:|---:|---:|---:|"
    )
    for package, one in counts.items():
        number = one["ok"] + one["refused"] + one["FAULT"]
        print(f"| {package} | {number} | {one['ok']} | {one['outside']} | {one['refused']} | {one['FAULT']} |")
    print("\n| files | why not | for example |\n|---:|---|---|")
    for reason, names in sorted(reasons.items(), key=lambda item: (item[0][:5] != "FAULT", -len(item[1]))):
        print(f"| {len(names)} | {reason.replace('|', '/')} | {names[0]} |")
    return 1 if counts["all"]["FAULT"] else 0


if __name__ == "__main__":
    sys.exit(main())
