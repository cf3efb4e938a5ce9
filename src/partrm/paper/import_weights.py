"""Public PartRM and LGM checkpoints into ours: a strict key table, nothing guessed and nothing left over.

A PartRM checkpoint gives every weight of a :class:`partrm.model.reference.ReferenceNetwork`; an LGM checkpoint gives
all but the drag modules, which start as the identity, so that the network answers as LGM does until it is trained.
"""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from partrm.errors import BROKEN_PICKLE
from partrm.model.checkpoints import CheckpointError, all_finite, save_checkpoint
from partrm.model.hub import hub_errors
from partrm.model.reference import REFERENCE_PRESETS, ReferenceConfig, ReferenceDragEmbedding, ReferenceNetwork

KEY_TABLE = (
    (r"(conv_in|norm_out|conv_out)\.(\w+)", r"unet.\1.\2"),
    (r"mix\.(\w+)", r"conv.\1"),
    (r"(down|up)\.(\d+)\.layers\.(\d+)\.res\.(.+)", r"unet.\1_blocks.\2.nets.\3.\4"),
    (r"(down|up)\.(\d+)\.layers\.(\d+)\.attention\.norm\.(\w+)", r"unet.\1_blocks.\2.attns.\3.norm.\4"),
    (r"(down|up)\.(\d+)\.layers\.(\d+)\.attention\.(qkv|proj)\.(\w+)", r"unet.\1_blocks.\2.attns.\3.attn.\4.\5"),
    (r"(down|up)\.(\d+)\.(downsample|upsample)\.(\w+)", r"unet.\1_blocks.\2.\3.\4"),
    (r"mid\.first\.res\.(.+)", r"unet.mid_block.nets.0.\1"),
    (r"mid\.first\.attention\.norm\.(\w+)", r"unet.mid_block.attns.0.norm.\1"),
    (r"mid\.first\.attention\.(qkv|proj)\.(\w+)", r"unet.mid_block.attns.0.attn.\1.\2"),
    (r"mid\.layers\.0\.res\.(.+)", r"unet.mid_block.nets.1.\1"),
    (r"drags\.(\d+)\.mlp\.(\d+)\.(\w+)", r"unet.drag_position_net.linears_drags.\1.\2.\3"),
    (r"drags\.(\d+)\.fuse\.(\w+)", r"unet.conv_merges.\1.\2"),
)
"""Our names (patterns) and the public ones."""

DROPPED = (
    (r"unet\.alpha", "a scalar that the reference trains and never uses"),
    (r"lpips_loss\..+", "the frozen VGG of the training loss"),
)
"""Public names (patterns) that are known and not needed, with the reason."""

PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")

IMPORTED_SHARD_BYTES = 2**29
"""Shard size of imported weights: larger than that of the bundled ones, which go through git."""


@dataclass(frozen=True)
class Imported:
    """What an import found and wrote."""

    folder: Path
    config: ReferenceConfig
    kind: Literal["partrm", "lgm"]
    parameters: int
    """Number of parameters of the network."""
    dropped: tuple[str, ...]
    """Names in the file that are known and not needed."""


WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "module")
"""Entries of a checkpoint file that may hold the weights."""

PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""What may stand before all names."""


def public_names(config: ReferenceConfig) -> dict[str, str]:
    """The public name of each of our weights."""
    return {name: _public_name(name) for name in meta_network(config).state_dict()}


def _public_name(name: str) -> str:
    matches = (re.sub(pattern, public, name) for pattern, public in KEY_TABLE if re.fullmatch(pattern, name))
    return next(matches)


def meta_network(config: ReferenceConfig) -> ReferenceNetwork:
    """The network without memory behind its weights: names and shapes."""
    with torch.device("meta"):
        return ReferenceNetwork(config)


def convert_weights(weights: Mapping[str, Tensor], config: ReferenceConfig) -> dict[str, Tensor]:
    """A public state dict under our names, complete and in float32.

    Args:
        weights: by public names; without any drag module it is LGM's.

    Raises:
        CheckpointError: names that are missing or unexpected, other shapes, or values that are not finite.
    """
    expected = {name: value.shape for name, value in meta_network(config).state_dict().items()}
    problems = mismatches(weights, config)
    if problems:
        raise CheckpointError(f"not the weights of {config.name!r}: {'; '.join(problems)}")
    given = {name: weights[_public_name(name)] for name in expected if _public_name(name) in weights}
    for name, value in given.items():
        if not value.is_floating_point() or not all_finite(value):
            raise CheckpointError(f"{_public_name(name)}: holds values that are not finite numbers")
    initial = {} if len(given) == len(expected) else initial_drag_modules(config)
    return {name: (given[name] if name in given else initial[name]).float() for name in expected}


def mismatches(weights: Mapping[str, Tensor], config: ReferenceConfig) -> list[str]:
    """What keeps a public state dict from fitting a network, in words; empty if it fits."""
    shapes = {_public_name(name): tuple(v.shape) for name, v in meta_network(config).state_dict().items()}
    if kind_of(weights) == "lgm":
        shapes = {name: shape for name, shape in shapes.items() if not is_drag_module(name)}
    unexpected = [name for name in weights if name not in shapes and not is_dropped(name)]
    missing = [name for name in shapes if name not in weights]
    misshapen = [
        f"{name} {tuple(weights[name].shape)} instead of {shape}"
        for name, shape in shapes.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
    return [f"{len(names)} {what} ({_few(names)})" for what, names in found if names]


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def is_drag_module(public_name: str) -> bool:
    """Whether a public name belongs to the modules that PartRM adds to LGM."""
    return public_name.startswith(("unet.drag_position_net.", "unet.conv_merges."))


def is_dropped(public_name: str) -> bool:
    """Whether a public name is known and not needed."""
    return any(re.fullmatch(pattern, public_name) for pattern, _ in DROPPED)


def kind_of(weights: Mapping[str, Tensor]) -> Literal["partrm", "lgm"]:
    """Whose weights these are, by whether there are drag modules."""
    return "partrm" if any(map(is_drag_module, weights)) else "lgm"


def initial_drag_modules(config: ReferenceConfig) -> dict[str, Tensor]:
    """Seeded first weights of the drag modules, under our names."""
    widths = (config.down_channels[0], *config.down_channels[:-1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = torch.nn.ModuleList(ReferenceDragEmbedding(width) for width in widths)
    return {f"drags.{name}": value.detach() for name, value in modules.state_dict().items()}


def detect_config(weights: Mapping[str, Tensor]) -> ReferenceConfig:
    """The preset that a public state dict comes closest to."""

    def distance(config: ReferenceConfig) -> int:
        shapes = {_public_name(name): v.shape for name, v in meta_network(config).state_dict().items()}
        alike = sum(name in weights and weights[name].shape == shape for name, shape in shapes.items())
        return len(shapes) + len(weights) - 2 * alike

    return min(REFERENCE_PRESETS.values(), key=distance)


def read_public_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors`` file, or in a pickle file (``.ckpt``, ...) read as plain tensors only.

    Wrappers (``{"state_dict": ...}``, ``{"model_state_dict": ...}`` and others of :data:`WRAPPERS`) and prefixes that
    compilers, data parallelism and Lightning put before names (:data:`PREFIXES`) are taken off.

    Raises:
        CheckpointError: a missing or broken file, or one that holds more than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
    if path.suffix == ".safetensors":
        try:
            path.open("rb").close()  # of a file that may not be read safetensors says that there is none
            content: Any = load_file(path)
        except PermissionError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path}: broken safetensors file ({error})") from error
    elif path.suffix in PICKLE_SUFFIXES:
        content = _unpickled(path)
    else:
        raise CheckpointError(f"{path}: a checkpoint ends in .safetensors, {', '.join(PICKLE_SUFFIXES)}")
    for _ in WRAPPERS:
        if isinstance(content, Mapping):
            content = next((content[k] for k in WRAPPERS if isinstance(content.get(k), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path}: holds no weights by name")
    strange = [str(k) for k, value in content.items() if not (isinstance(k, str) and isinstance(value, Tensor))]
    if strange:
        raise CheckpointError(f"{path}: {len(strange)} entries are not tensors ({_few(strange)})")
    return _plainly_named(dict(content), path)


def _plainly_named(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights under the network's own names.

    Raises:
        CheckpointError: two of them are then called the same.
    """
    names = {name: name.replace("._orig_mod.", ".") for name in weights}
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in names.values())), None):
        names = {name: plain.removeprefix(prefix) for name, plain in names.items()}
    plain = {names[name]: value for name, value in weights.items()}
    if len(plain) < len(weights):
        raise CheckpointError(f"{path}: holds weights twice, under prefixed and plain names")
    return plain


def _unpickled(path: Path) -> Any:
    """A pickle file's content, tensors and plain containers alone; nothing in it is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is strange about the file is said below, in one line
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"refused, it would run or build {named.group(1)}" if named else "broken, or no checkpoint"
        raise CheckpointError(f"{path}: {what}; only plain tensors are read") from error
    except BROKEN_PICKLE as error:
        told = isinstance(error, RuntimeError | OSError) and str(error)
        reason = str(error).splitlines()[0] if told else "its bytes are no pickle of tensors"
        raise CheckpointError(f"{path}: broken checkpoint file ({reason})") from error


def import_checkpoint(
    source: Path, out: Path, preset: Literal["auto", "big", "small", "tiny"] = "auto", origin: str | None = None
) -> Imported:
    """Convert a public checkpoint file into our checkpoint folder, complete or not at all.

    Args:
        source: the file; float16 weights stay float16 on disk, others become float32.
        out: the folder; an older checkpoint there is replaced, anything else is left alone.
        preset: which network it is for; ``auto`` takes the one that fits best.
        origin: what the model card names as the source instead of the file's name.

    Raises:
        CheckpointError: weights that cannot be read or do not fit, or a folder that holds something else.
    """
    check_replaceable(out)
    public = read_public_weights(source)
    config = detect_config(public) if preset == "auto" else REFERENCE_PRESETS[preset]
    try:
        weights = convert_weights(public, config)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    kind, dropped = kind_of(public), tuple(filter(is_dropped, public))
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = {"imported_from": origin or source.name, "sha256": digest, "kind": kind, "dropped": list(dropped)}
    half = all(value.dtype == torch.float16 for name, value in public.items() if not is_dropped(name))
    save_checkpoint(weights, config, out, card, half=half, shard_bytes=IMPORTED_SHARD_BYTES)
    return Imported(out, config, kind, sum(value.numel() for value in weights.values()), dropped)


def check_replaceable(folder: Path) -> None:
    """Make sure that a checkpoint can be written here without loss of anything but an older checkpoint.

    Raises:
        CheckpointError: a file, or a folder that holds something else.
    """
    if folder.is_dir():
        others = [p for p in folder.iterdir() if p.name != "config.json" and not p.match("model-*-of-*.safetensors")]
        if others:
            raise CheckpointError(f"{folder}: holds something else ({others[0].name}); name a new folder")
    elif folder.exists():
        raise CheckpointError(f"{folder}: is a file; name a folder")


def fetch_checkpoint(source: str) -> Path:
    """The local file of ``hf:owner/name/file`` on the Hugging Face Hub (downloaded once), or of a path.

    Raises:
        CheckpointError: a malformed address, or a file that cannot be fetched.
    """
    if not source.startswith("hf:"):
        return Path(source)
    import huggingface_hub

    parts = source.removeprefix("hf:").split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise CheckpointError(f"{source}: not of the form hf:owner/name/file")
    with hub_errors(CheckpointError, f"{source}: cannot be fetched"):
        return Path(huggingface_hub.hf_hub_download("/".join(parts[:2]), parts[2]))
