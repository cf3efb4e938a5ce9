"""Objects of any SOURCE packed into one pool to train on (``partrm data pool``)."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from partrm.datasets.executors import ONE_DIED, given_out, require_room, told_by_threads
from partrm.datasets.sources import (
    GENERATORS,
    Source,
    SourceError,
    load_source,
    plain_name,
    plan_sources,
    require_generators,
)
from partrm.errors import ConfigError, require_ranges
from partrm.files import staged_folder
from partrm.objects.articulated_object import ArticulatedObject, ObjectError, PackageMissingError
from partrm.objects.real_objects import real_object_names
from partrm.procedural import CATEGORIES, OWN_CATEGORIES, generate
from partrm.synthesis.mesh_pool import Pool, PoolError, save_pool

MIXED = "assembly"
"""The category whose objects have mechanisms of their own, so that many of them are worth having."""


@dataclass(frozen=True)
class ProceduralCounts:
    """How many objects the word ``procedural`` means."""

    per_category: int = 100
    """Objects of each category that needs nothing but numpy."""
    per_kitchen_category: int | None = None
    """Objects of each scene-synthesizer category; by default as many as of the others."""
    per_assembly: int | None = None
    """Objects of the category ``assembly``, each with mechanisms of its own; by default as many as of the others."""
    seed: int = 0
    """First seed of each category. The evaluation's objects have the seeds from 1 000 000 on, those to watch a training
    by from 2 000 000 on."""

    def __post_init__(self) -> None:
        """Refuse numbers that no pool has.

        Raises:
            ConfigError: a negative one, or a seed beyond 32 bits.
        """
        for name, value in vars(self).items():
            if value is not None and value < 0:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: give 0 or more")
        require_ranges({"--seed": (self.seed, 0, 2**31)})

    def of(self, generator: str) -> int:
        """Number of objects of a generator."""
        others = None if generator in OWN_CATEGORIES else self.per_kitchen_category
        asked = self.per_assembly if generator == MIXED else others
        return self.per_category if asked is None else asked


@dataclass(frozen=True)
class PackedSources:
    """A pool, and what could not be packed."""

    pool: Pool
    refused: tuple[tuple[str, str], ...]
    """(source, reason) of every object left out."""
    notes: tuple[tuple[str, str], ...] = ()
    """(source, what was left out or looks odd) of objects that were packed."""


@dataclass(frozen=True)
class SavedPools:
    """What was written, and what could not be."""

    files: int
    objects: int
    categories: int
    refused: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...]


def plan_pool(words: Sequence[str], counts: ProceduralCounts, allow_outside: tuple[Path, ...] = ()) -> list[Source]:
    """The objects that SOURCE words mean, each once, in the order of the words.

    Args:
        words: those of ``data build``, and ``real``: the evaluation's real objects. ``procedural`` means all of our
            generators here, ``procedural:NAME`` one generator or those of one category of PartDrag-4D.
        counts: procedural objects of each generator.
        allow_outside: folders whose files the sources may name beside those below their own.

    Raises:
        SourceError: no words, or one that is no known generator, folder or file.
    """
    if not words:
        raise SourceError("give at least one SOURCE: procedural, procedural:CATEGORY, real, a folder, .urdf or .xml")
    planned: dict[str, Source] = {}
    for word in words:
        if word == "real":
            found = [Source(name, "real", name) for name in real_object_names()]
        elif word == "procedural:":
            raise SourceError("procedural: give a category behind the colon, or leave it out")
        elif word == "procedural" or word.startswith("procedural:"):
            found = list(_procedural(word.partition(":")[2], counts))
        else:
            found = plan_sources((word,), None, 0, allow_outside)
        for source in found:
            planned.setdefault(source.origin, source)
    return list(planned.values())


def _procedural(name: str, counts: ProceduralCounts) -> Iterator[Source]:
    if name and name not in GENERATORS and name not in CATEGORIES:
        raise SourceError(f"procedural:{name}: no such category; there are {', '.join([*GENERATORS, *CATEGORIES])}")
    for generator in GENERATORS.get(name, (name,) if name else CATEGORIES):
        for seed in range(counts.seed, counts.seed + counts.of(generator)):
            yield Source(plain_name(f"{generator}-{seed}"), "procedural", f"{generator}:{seed}", generator)


def save_pools(
    sources: Sequence[Source],
    out: Path,
    shard_objects: int | None = None,
    workers: int = 1,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> SavedPools:
    """Pack objects into one file, or into shards of a folder that appears once all are whole.

    Args:
        sources: planned by :func:`plan_pool`.
        out: the file, or the folder, which is not there yet.
        shard_objects: most objects of a shard, and in memory; each shard has objects from all over the list. None
            makes one file.
        workers: see :func:`pack_sources`.
        report: likewise.

    Raises:
        PoolError: a file of which no object can be used.
        PackageMissingError: the package that a source needs is not installed.
        OutputError: it cannot be written.
    """
    require_generators(sources)
    count = 1 if shard_objects is None else -(-len(sources) // shard_objects)
    shards = [sources[first::count] for first in range(count)]
    objects, done, names = 0, 0, set[str]()
    refused: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    with nullcontext() if shard_objects is None else staged_folder(out) as folder:
        for number, shard in enumerate(shards):
            packed = pack_sources(shard, workers, lambda ended, _, before=done: report(before + ended, len(sources)))
            save_pool(packed.pool, out if folder is None else folder / f"{number:05d}.npz")
            objects, done, names = objects + packed.pool.count, done + len(shard), names | {*packed.pool.category_names}
            refused += packed.refused
            notes += packed.notes
            del packed  # before the next is made
    return SavedPools(count, objects, len(names), tuple(refused), tuple(notes))


def pack_sources(
    sources: Sequence[Source], workers: int = 1, report: Callable[[int, int], None] = lambda done, of: None
) -> PackedSources:
    """Load and pack objects, in their order; those that cannot be used are left out, with the reason.

    Args:
        sources: planned by :func:`plan_pool`.
        workers: processes that load; 1 loads in this one. The pool is the same for any number.
        report: called with objects done and planned, after each.

    Raises:
        PoolError: none can be used.
        PackageMissingError: the package that a source needs is not installed.
    """
    objects: list[ArticulatedObject] = []
    refused: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    for source, (loaded, reason) in zip(sources, _loaded(sources, workers), strict=True):
        if loaded is None:
            refused.append((source.where, reason))
        else:
            objects.append(loaded)
            notes += [(source.where, note) for note in loaded.notes]
        report(len(objects) + len(refused), len(sources))
    if not objects:
        first = f"; the first: {refused[0][1]}" if refused else ""
        raise PoolError(f"no object could be used{first}")
    return PackedSources(Pool.from_objects(objects), tuple(refused), tuple(notes))


def _loaded(sources: Sequence[Source], workers: int) -> Iterator[tuple[ArticulatedObject | None, str]]:
    if workers <= 1:
        yield from map(_load, sources)
        return
    require_room(workers)
    with ProcessPoolExecutor(workers) as executor, told_by_threads():
        try:
            yield from given_out(executor, _load, sources, 8)
        except BrokenProcessPool as error:
            raise PoolError(ONE_DIED) from error


def _load(source: Source) -> tuple[ArticulatedObject | None, str]:
    """An object under its generator's or its file's name, or why it cannot be used."""
    if source.kind == "procedural":
        generator, seed = source.where.split(":")
        return generate(generator, int(seed)), ""
    try:
        return load_source(source), ""
    except PackageMissingError:
        raise
    except ObjectError as error:
        return None, str(error)
