"""The loaders that are fuzzed: sound files of each, one of which is damaged, and what reads them."""

import io
import json
import lzma
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from support.boxes import cabinet

from partrm.assets.predicted import load_predicted
from partrm.datasets.build import build
from partrm.datasets.check import check_dataset
from partrm.datasets.object_writer import BuildConfig
from partrm.datasets.partdrag4d import load_points, load_visible
from partrm.evaluation.eval_set import load_eval_set, save_eval_set
from partrm.evaluation.planning import Candidate, ObjectScene, assemble, fixed_candidates
from partrm.evaluation.report import comparison, results_of
from partrm.evaluation.results import (
    ByMethod,
    ByMetric,
    CodeVersion,
    DataIdentity,
    Identity,
    ModelIdentity,
    SampleRow,
    load_results,
)
from partrm.evaluation.samples import PosedSettings, RunSettings, SampleLabel
from partrm.evaluation.session import load_rows
from partrm.evaluation.user_samples import simple_samples
from partrm.geometry.cameras import canonical_orbit, load_cameras, save_cameras
from partrm.geometry.gaussians import Gaussians, load_ply, save_ply
from partrm.imaging.images import load_image
from partrm.inference.part_maps import parts_file, read_part_network
from partrm.jobs.jobs_file import read_jobs
from partrm.model.checkpoints import load_model, save_checkpoint
from partrm.model.network import TINY, PartRMNetwork
from partrm.objects.mjcf import load_mjcf
from partrm.objects.mjcf_export import save_mjcf
from partrm.objects.partnet import load_partnet, save_partnet
from partrm.objects.urdf import load_urdf, save_urdf
from partrm.paper.import_weights import read_public_weights
from partrm.synthesis.mesh_pool import Pool, load_pool, save_pool
from partrm.training.config import TrainConfig
from partrm.training.recipe import load_recipe
from partrm.training.run_state import load_state
from partrm.viewer.sources import open_prediction

Files = dict[str, bytes]


@dataclass(frozen=True)
class Target:
    """A loader and the files that it reads."""

    read: Callable[[Path], Any]
    """Called with a folder that holds the files."""
    files: Files
    damaged: tuple[str, ...]
    """Names of the files that are mutated, one at a time."""
    json: bool = False
    """Mutate values rather than bytes."""
    wrap: Callable[[bytes], bytes] | None = None
    """Makes the file of the mutated bytes (a compression, of which only the inside is worth damaging)."""
    unwrap: Callable[[bytes], bytes] = field(default=lambda content: content)


def _files(folder: Path) -> Files:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _image(kind: str) -> bytes:
    pixels = np.zeros((24, 24, 4), np.uint8)
    pixels[6:18, 6:18] = (200, 80, 40, 255)
    image = Image.fromarray(pixels) if kind in ("PNG", "WEBP", "TIFF", "TGA") else Image.fromarray(pixels[..., :3])
    file = io.BytesIO()
    image.save(file, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    return file.getvalue()


def targets(work: Path) -> dict[str, Target]:
    """Every loader that is fuzzed, by name; sound files are made below ``work``."""
    made = _pictures() | _objects(work) | _datasets(work) | _weights(work) | _records(work)
    return made | _evaluation(work) | _asked_for()


def _pictures() -> dict[str, Target]:
    kinds = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "TGA")
    return {f"image {k}": Target(lambda f: load_image(f / "a.png"), {"a.png": _image(k)}, ("a.png",)) for k in kinds}


def _objects(work: Path) -> dict[str, Target]:
    import trimesh

    save_urdf(cabinet(), work / "urdf" / "x.urdf") if (work / "urdf").mkdir() is None else None
    urdf = _files(work / "urdf")
    mesh = next(name for name in urdf if name.endswith(".obj"))
    found = {
        "URDF": Target(lambda f: load_urdf(f / "x.urdf"), urdf, ("x.urdf",)),
        "OBJ": Target(lambda f: load_urdf(f / "x.urdf"), urdf, (mesh,)),
        "MTL": Target(lambda f: load_urdf(f / "x.urdf"), urdf, ("x_meshes/materials.mtl",)),
    }
    box = trimesh.creation.box((1, 2, 3))
    for ending in ("stl", "ply", "glb", "dae"):
        text = urdf["x.urdf"].replace(mesh.encode(), f"m.{ending}".encode(), 1)
        content = trimesh.Scene(box).export(file_type=ending) if ending == "glb" else box.export(file_type=ending)
        files = {**urdf, "x.urdf": text, f"m.{ending}": content}
        found[ending.upper()] = Target(lambda f: load_urdf(f / "x.urdf"), files, (f"m.{ending}",))
    (work / "mjcf").mkdir()
    save_mjcf(cabinet(), work / "mjcf" / "x.xml")
    found["MJCF"] = Target(lambda f: load_mjcf(f / "x.xml"), _files(work / "mjcf"), ("x.xml",))
    (work / "partnet").mkdir()
    save_partnet(cabinet(), work / "partnet")
    partnet = _files(work / "partnet")
    names = ("mobility_v2.json", "meta.json", "result.json")
    return found | {"PartNet": Target(load_partnet, partnet, names, json=True)}


def _check(folder: Path) -> None:
    problems = [problem for found in check_dataset(folder) for problem in found.problems]
    assert all("\n" not in problem for problem in problems)


def _datasets(work: Path) -> dict[str, Target]:
    config = BuildConfig(size_px=16, views=1, states=2, distractors=0, points=20)
    build((str(work / "urdf" / "x.urdf"),), work / "data", config, limit=1)
    data = _files(work / "data")
    cloud = next(name for name in data if name.endswith("_0.ply"))
    seen = next(name for name in data if name.endswith("_visible.npy"))
    lists = tuple(name for name in data if name.endswith("_filelist.txt"))
    picture = next(name for name in data if name.endswith("000.png"))
    save_pool(Pool.from_objects([cabinet()]), work / "a.npz")
    pool = {"a.npz": (work / "a.npz").read_bytes()}
    return {
        "manifest": Target(_check, data, ("manifest.json",), json=True),
        "records": Target(_check, data, ("objects/x.json", "build.json"), json=True),
        "file lists": Target(_check, data, lists),
        "camera of a view": Target(_check, data, (picture.replace(".png", "_camera.json"),), json=True),
        "view": Target(_check, data, (picture,)),
        "point cloud": Target(lambda f: load_points(f / "a.ply"), {"a.ply": data[cloud]}, ("a.ply",)),
        "npy": Target(lambda f: load_visible(f / "a.npy", 20), {"a.npy": data[seen]}, ("a.npy",)),
        "pool": Target(lambda f: load_pool(f / "a.npz"), pool, ("a.npz",)),
        "pool inside": Target(
            lambda f: load_pool(f / "a.npz"), pool, ("a.npz",), wrap=lzma.compress, unwrap=lzma.decompress
        ),
    }


def _weights(work: Path) -> dict[str, Target]:
    torch.manual_seed(0)
    small = PartRMNetwork(TINY)
    save_checkpoint(small.state_dict(), TINY, work / "model")
    files = _files(work / "model")
    shard = next(name for name in files if name.endswith(".safetensors"))
    named = {"a.weight": torch.zeros(2, 3), "b": torch.ones(4)}
    torch.save({"state_dict": named}, work / "a.ckpt")
    torch.save({"step": 3, "network": named, "data": {"first_step": 1}}, work / "a.pt")
    tensors = {"model-00001-of-00001.safetensors": files[shard][: 8 + 4096], "config.json": files["config.json"]}
    return {
        "config": Target(load_model, tensors, ("config.json",), json=True),
        "safetensors": Target(load_model, files, (shard,)),
        "public weights": Target(
            lambda f: read_public_weights(f / "a.ckpt"), {"a.ckpt": (work / "a.ckpt").read_bytes()}, ("a.ckpt",)
        ),
        "checkpoint": Target(lambda f: load_state(f / "a.pt"), {"a.pt": (work / "a.pt").read_bytes()}, ("a.pt",)),
        "part network": Target(
            lambda f: read_part_network(f / "p.safetensors"), {"p.safetensors": parts_file().read_bytes()},
            ("p.safetensors",),
        ),
    }  # fmt: skip


def _records(work: Path) -> dict[str, Target]:
    save_cameras(canonical_orbit(3, 32), work / "cameras.json")
    cameras = {"cameras.json": (work / "cameras.json").read_bytes()}
    shape = {"means": (9, 3), "quats": (9, 4), "scales": (9, 3), "opacities": (9,), "colors": (9, 3)}
    gaussians = Gaussians(**{name: torch.full(size, 0.5) for name, size in shape.items()})
    places = torch.linspace(0, 1, 9)[:, None].repeat(1, 3)
    gaussians, after = replace(gaussians, means=places), work / "after.ply"
    save_ply(gaussians, work / "g.ply")
    ply = (work / "g.ply").read_bytes()
    slid = 0.5 * (torch.arange(9) > 5)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    save_ply(replace(gaussians, means=places + slid), after)
    joint = {"type": "prismatic", "axis": [0, 0, 1], "pivot": [0, 0, 0], "amount": 0.5, "confidence": 0.9}
    prediction = {"prediction.json": json.dumps({"partrm_version": "1", "joint": joint}).encode()}
    seen = {"file": "input.png", "T_canonical_camera": torch.eye(4).tolist(), "fovy_deg": 20.0}
    about = {"joint": joint, "model": {"name": "a", "hash": "b"}, "gaussians": {"moving": 3}, "source": {"input": seen}}
    result = {"prediction.json": json.dumps({"partrm_version": "1"} | about).encode(), "input.png": _image("PNG")}
    result |= {"gaussians.ply": after.read_bytes(), "gaussians_before.ply": ply}
    sample = {"drags": [[1, 2, 10, 12]], "inputs": 1, "part": 0, "category": "Door", "joint": joint}
    return {
        "cameras": Target(lambda f: load_cameras(f / "cameras.json"), cameras, ("cameras.json",), json=True),
        "Gaussian PLY": Target(lambda f: load_ply(f / "g.ply"), {"g.ply": ply}, ("g.ply",)),
        "prediction": Target(
            open_prediction, {**prediction, "gaussians.ply": ply, "gaussians_before.ply": ply}, ("prediction.json",),
            json=True,
        ),
        "result": Target(load_predicted, result, ("prediction.json",), json=True),
        "picture of a result": Target(load_predicted, result, ("input.png",)),
        "sample": Target(_sample, {"a/sample.json": json.dumps(sample).encode()}, ("a/sample.json",), json=True),
    }  # fmt: skip


def _sample(folder: Path) -> None:
    for sample in simple_samples(folder):
        sample._joint(2.4)
        sample._inputs(3)


def _evaluation(work: Path) -> dict[str, Target]:
    """A packed set, its JSON record too, and the rows of a run that was cut off."""
    obj = cabinet()
    plan = ObjectScene.of(obj).first_shown(fixed_candidates(obj, 1, 0))
    save_eval_set(assemble("real", 0, [Candidate(obj, "opening", plan)], []), work / "set.safetensors")
    packed = {"set.safetensors": (work / "set.safetensors").read_bytes()}
    metrics = ByMetric.each(lambda name: 0.5)
    row = SampleRow(SampleLabel(0, "a", "Door", 1, "opening", "revolute", 0.5), ByMethod.each(lambda name: metrics))
    other = SampleRow(replace(row.label, sample=1, object="b"), row.metrics)
    rows = "".join(json.dumps(line) + "\n" for line in (IDENTITY, row.to_json(), other.to_json()))
    data = DataIdentity("a", "rendered", "b", 0, 2, 2, ("c: hidden",))
    posed, settings = PosedSettings(8, 20.0), RunSettings(limit=2)
    known = Identity(CodeVersion("1", "a"), data, ModelIdentity("base", "c"), None, settings, posed, "cpu")
    results = results_of(known, [row, other])
    return {
        "metrics": Target(
            lambda f: comparison(results, load_results(f / "metrics.json")),
            {"metrics.json": results.text().encode()}, ("metrics.json",), json=True,
        ),
        "packed set": Target(lambda f: load_eval_set(f / "set.safetensors"), packed, ("set.safetensors",)),
        "rows": Target(
            lambda f: load_rows(f / "rows.jsonl", Known(), SampleRow.from_json), {"rows.jsonl": rows.encode()},
            ("rows.jsonl",),
        ),
    }  # fmt: skip


IDENTITY = {"code": "a", "data": "b"}


class Known:
    """An evaluation's identity."""

    def to_json(self) -> dict[str, Any]:
        return IDENTITY


def _asked_for() -> dict[str, Target]:
    """What users write themselves: files of jobs, recipes."""
    job = {"name": "a", "image": "a.png", "drags": [[1, 2, 10, 12]], "box": [0, 0, 9, 9], "fovy_deg": 20.0}
    jobs = "".join(json.dumps(job | {"name": name, "detail": 64}) + "\n" for name in ("a", "b", "c"))
    recipe = (resources.files("partrm.training") / "recipes" / "base.toml").read_bytes()
    return {
        "jobs": Target(lambda f: read_jobs(f / "a.jsonl"), {"a.jsonl": jobs.encode()}, ("a.jsonl",)),
        "job": Target(
            lambda f: read_jobs(f / "a.jsonl"), {"a.jsonl": json.dumps(job).encode()}, ("a.jsonl",), json=True
        ),
        "recipe": Target(
            lambda f: TrainConfig((), Path(), **load_recipe(f / "a.toml")), {"a.toml": recipe}, ("a.toml",)
        ),
    }


@dataclass
class Quiet:
    """Silences the warnings of libraries while damaged files are read."""

    def __enter__(self) -> None:
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error) -> None:
        self.caught.__exit__(*error)
