"""Where the objects of a data build come from: the SOURCE words of the command line, planned before loading."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from typing import Literal

from partrm.datasets.partdrag4d import CATEGORIES as OFFICIAL
from partrm.errors import PartRMError
from partrm.objects.articulated_object import ArticulatedObject, ObjectError, PackageMissingError
from partrm.objects.descriptions import root_of
from partrm.objects.mjcf import load_mjcf
from partrm.objects.partnet import PARTNET_FILE, is_partnet_folder, load_partnet, partnet_folders
from partrm.objects.real_objects import load_real_object
from partrm.objects.urdf import load_urdf
from partrm.procedural import CATEGORIES, OWN_CATEGORIES, generate, partdrag_generators

PROCEDURAL_DEFAULT = 96
"""Objects of a procedural source when no limit is given."""

SEEDS_PER_BUILD = 1_000_000
"""Build seed N makes the procedural objects from seed N times this on."""

MOVED_SEEDS = {1: 500_000, 2: 3_500_000}
"""Where the build seeds begin whose own place belongs to the evaluation's objects (1 000 000 to 1 999 999) and to those
that training is watched by (2 000 000 to 2 999 999)."""

OBJECTS_PER_BUILD = 500_000
"""Most procedural objects of a build, so that no seed reaches the next."""

NAME_BYTES = 100
"""Longest name of an object; those of its files are longer, and file systems take 255 bytes."""

GENERATORS: dict[str, tuple[str, ...]] = partdrag_generators()
"""Procedural generators of PartDrag-4D's categories, taken in turn."""


OTHER_ENDINGS = {
    ".sdf": "an SDF file of Gazebo, which is not read; convert it to URDF first",
    ".xacro": "a xacro file; run xacro first: xacro FILE > whole.urdf",
    ".usd": "a USD file, which is not read; convert it to URDF or MJCF first",
    ".usda": "a USD file, which is not read; convert it to URDF or MJCF first",
    ".usdz": "a USD file, which is not read; convert it to URDF or MJCF first",
}
"""What files are that are often given, and what to do with them."""


class SourceError(PartRMError):
    """A SOURCE of the command line that means nothing; the message says which and what would."""


@dataclass(frozen=True)
class Source:
    """One object to be."""

    mesh: str
    """Its name in the dataset: distinct, without underscores."""
    kind: Literal["procedural", "partnet", "urdf", "mjcf", "real"]
    where: str
    """Path, ``generator:seed``, or the name of a real object."""
    category: str = ""
    """Category in the dataset where the source does not know its own."""
    allow_outside: tuple[str, ...] = ()
    """Folders whose files it may name beside those below its own."""

    @property
    def origin(self) -> str:
        """What two sources of the same object have in common, however their paths are written."""
        if self.kind in ("procedural", "real"):
            return self.where
        return str(Path(self.where, PARTNET_FILE if self.kind == "partnet" else "").resolve())

    def load(self) -> ArticulatedObject:
        """The object, named as in the dataset.

        Raises:
            ObjectError: it cannot be used; the message says why.
        """
        outside = self.allow_outside
        if "\\udc" in self.where:
            raise ObjectError(f"{self.where}: the path is not UTF-8; rename it")
        if self.kind == "procedural":
            generator, seed = self.where.split(":")
            loaded = generate(generator, int(seed))
        elif self.kind == "real":
            loaded = load_real_object(self.where)
        elif self.kind == "partnet":
            loaded = load_partnet(self.where, allow_outside=outside)
        elif self.kind == "urdf":
            loaded = load_urdf(self.where, allow_outside=outside)
        else:
            loaded = load_mjcf(self.where, allow_outside=outside)
        if not loaded.movable:
            raise ObjectError(f"{self.where}: nothing moves")
        if self.kind == "urdf" and not self.where.lower().endswith(".urdf"):
            loaded = replace(loaded, notes=("read as a URDF, which its root element says it is", *loaded.notes))
        return replace(loaded, name=self.mesh, category=plain_name(self.category or loaded.category))


def load_source(source: Source) -> ArticulatedObject:
    """The source's object; whatever a broken file makes a loader raise becomes the reason of its refusal.

    Raises:
        ObjectError: it cannot be used; the message says why.
        PackageMissingError: the package that it needs is not installed.
        MemoryError: there is not enough.
    """
    try:
        return source.load()
    except (ObjectError, MemoryError):
        raise
    except ImportError as error:
        raise PackageMissingError(f"{source.where}: a package cannot be imported ({error}); install it") from error
    except Exception as error:
        raise ObjectError(f"{source.where}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def require_generators(sources: Sequence[Source]) -> None:
    """Find out before the work whether the packages of all procedural objects are installed.

    Raises:
        PackageMissingError: one is not.
    """
    if find_spec("scene_synthesizer") is not None:
        return
    for source in sources:
        generator = source.where.partition(":")[0]
        if source.kind == "procedural" and generator not in OWN_CATEGORIES:
            raise PackageMissingError(
                f"{generator} needs scene-synthesizer: pip install 'partrm[data]', or name other categories"
            )


def plain_name(text: str) -> str:
    """A text that can name a folder and has no underscore; letters of any script stay."""
    plain = re.sub(r"[\W_]+", "-", text).strip("-").encode()[:NAME_BYTES]  # file systems count bytes
    return plain.decode(errors="ignore").strip("-") or "object"


def plan_sources(
    words: tuple[str, ...], limit: int | None, seed: int, allow_outside: tuple[Path, ...] = ()
) -> list[Source]:
    """The objects that SOURCE words mean, each once, taken from each word in turn up to ``limit`` in all.

    ``allow_outside`` are folders whose files any of them may name.

    Raises:
        SourceError: no words, one that is no known generator, folder or file, or too many procedural objects.
    """
    if not words:
        raise SourceError("give at least one SOURCE: procedural, procedural:CATEGORY, a folder, .urdf or .xml")
    outside = tuple(str(_require_folder(folder)) for folder in allow_outside)
    streams = [_expand(word, limit, seed) for word in words]
    planned: list[Source] = []
    used: set[str] = set()
    known: set[str] = set()
    while streams and (limit is None or len(planned) < limit):
        for stream in list(streams):
            source = next((s for s in stream if s.origin not in known), None)
            if source is None:
                streams.remove(stream)
            elif limit is None or len(planned) < limit:
                mesh = next(m for n in count(1) if (m := source.mesh + (f"-{n}" if n > 1 else "")) not in used)
                used.add(mesh)
                known.add(source.origin)
                planned.append(replace(source, mesh=mesh, allow_outside=outside))
    return planned


def _expand(word: str, limit: int | None, seed: int) -> Iterator[Source]:
    if word == "procedural" or word.startswith("procedural:"):
        if limit is not None and limit > OBJECTS_PER_BUILD:
            raise SourceError(
                f"{word}: at most {OBJECTS_PER_BUILD} objects a seed; give a lower --limit and more --seed"
            )
        return islice(_procedural(word.partition(":")[2], seed), limit or PROCEDURAL_DEFAULT)
    path = Path(word)
    try:
        word.encode()
        is_folder, is_file = path.is_dir(), path.is_file()
    except UnicodeEncodeError as error:
        raise SourceError(f"{word!a}: the path is not UTF-8; rename it") from error
    except OSError as error:
        raise SourceError(f"{word[:60]}...: {error.strerror}") from error
    if is_folder:
        folders = [path] if is_partnet_folder(path) else partnet_folders(path)
        if not folders:
            raise SourceError(f"{word}: neither a PartNet-Mobility folder nor a folder of them (no mobility.urdf)")
        return iter([Source(plain_name(f.absolute().name), "partnet", _printable(f.absolute())) for f in folders])
    ending = path.suffix.lower()
    if ending in (".urdf", ".xml"):
        if not is_file:
            raise SourceError(f"{word}: no such file" if not path.exists() else f"{word}: not a regular file")
        kind = "urdf" if ending == ".urdf" or root_of(path) == "robot" else "mjcf"
        return iter([Source(plain_name(path.stem), kind, str(path.absolute()))])
    if ending in OTHER_ENDINGS:
        raise SourceError(f"{word}: {OTHER_ENDINGS[ending]}")
    raise SourceError(f"{word}: not procedural[:CATEGORY], a PartNet-Mobility folder, a .urdf or a MuJoCo .xml file")


def _require_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise SourceError(f"--allow-outside {folder}: no such folder")
    return folder.absolute()


def _printable(path: Path) -> str:
    """A path as text that any file can hold; one that is not UTF-8 is escaped, and refused when it is loaded."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _procedural(category: str, seed: int) -> Iterator[Source]:
    if category and category not in GENERATORS and category not in CATEGORIES:
        raise SourceError(f"procedural:{category}: no such category; there are {', '.join([*OFFICIAL, *CATEGORIES])}")
    return _generated([category] if category else list(OFFICIAL), seed)


def _generated(categories: list[str], seed: int) -> Iterator[Source]:
    first = MOVED_SEEDS.get(seed, seed * SEEDS_PER_BUILD)
    for number in count():
        category = categories[number % len(categories)]
        generators = GENERATORS.get(category, (category,))
        generator = generators[number // len(categories) % len(generators)]
        own = next((c for c, names in GENERATORS.items() if generator in names), generator)
        at = first + number
        yield Source(plain_name(f"{generator}-{at}"), "procedural", f"{generator}:{at}", own)
