"""Weights on disk: sharded safetensors with a config beside them; never pickle.

A checkpoint is a folder with ``config.json`` (architecture, the network's config and a model card's facts) and
``model-0000i-of-0000n.safetensors`` shards.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from partrm.errors import ConfigError, PartRMError
from partrm.files import read_bytes, read_json, staged_folder
from partrm.model.bundled import bundled_folders
from partrm.model.devices import Precision
from partrm.model.network import NetworkConfig, PartRMNetwork
from partrm.model.reference import ReferenceConfig, ReferenceNetwork
from partrm.model.unet import use_bfloat16

SHARD_BYTES = 15 * 2**20
"""Largest size of one shard."""

ARCHITECTURES = {"articulated": NetworkConfig, "reference": ReferenceConfig}
"""Config class of each ``architecture`` in ``config.json``; folders without that entry are articulated."""

DROPPED_FIELDS = {"joint_votes": True, "head": "articulated", "drag_levels": [], "drag_positions": "fractions"}
"""Fields of older checkpoints' ``NetworkConfig``, each with the one value that our network still has."""

MAX_CONFIG_BYTES = 2**22
MAX_SHARD_BYTES = 2**32
MAX_LEVELS = 8
MAX_NAME = 200

RANGES: dict[type, dict[str, tuple[int | float, int | float]]] = {
    NetworkConfig: {
        "image_size_px": (16, 1024), "down_channels": (8, 4096), "down_layers": (1, 16), "attention_layers": (0, 17),
        "mid_depth": (0, 16), "head_channels": (1, 1024), "drag_channels": (1, 2048), "fine_channels": (1, 2048),
        "layers": (1, 2),
    },
    ReferenceConfig: {
        "image_size_px": (16, 1024), "down_channels": (8, 4096), "up_channels": (8, 4096), "down_layers": (1, 16),
        "heads": (1, 256), "drag_image_px": (1, 8192), "ray_fovy_deg": (1.0, 170.0),
    },
}  # fmt: skip
"""Least and greatest value of the numbers of a config; wider ones fill the memory."""

LATER_FIELDS = {"layers": 1}
"""Fields that older checkpoints lack, and what their networks are."""


class CheckpointError(PartRMError):
    """Weights that cannot be used; the message says which file and why."""


@dataclass(frozen=True)
class LoadedModel:
    """A network ready for use, and where it came from."""

    network: PartRMNetwork | ReferenceNetwork
    name: str
    hash: str
    """First 16 hex digits of the SHA-256 over all shards, in order."""
    config: NetworkConfig | ReferenceConfig
    precision: Precision = "float32"

    @property
    def articulated(self) -> PartRMNetwork:
        """The network, if it says which part moves and how.

        Raises:
            CheckpointError: the reference network, which gives the next state alone.
        """
        network = self.network
        if isinstance(network, ReferenceNetwork):
            raise CheckpointError(
                f"model {self.name!r} has the reference's state head, without the moving part, the joint and the state "
                "before, which this needs; take an articulated model, or its Gaussians through PartRM.from_pretrained"
            )
        return network


def bundled_names() -> list[str]:
    """Names of the bundled models."""
    return list(bundled_folders())


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the rights of new files; the library makes one for this user alone."""
    fresh = path.with_name(f"{path.name}.rights")
    fresh.touch()
    try:
        save_file(tensors, path, metadata)
        shutil.copymode(fresh, path)
    finally:
        fresh.unlink()


def save_checkpoint(
    weights: dict[str, Tensor],
    config: NetworkConfig | ReferenceConfig,
    folder: Path,
    card: dict | None = None,
    half: bool = True,
    shard_bytes: int | None = None,
) -> None:
    """Write weights as a checkpoint folder, complete or not at all.

    Args:
        weights: the network's ``state_dict``.
        card: facts for the model card (JSON-serialisable), kept in ``config.json``.
        half: store float16 instead of float32.
        shard_bytes: largest size of one shard, ``SHARD_BYTES`` by default.
    """
    shards: list[dict[str, Tensor]] = [{}]
    used, most = 0, SHARD_BYTES if shard_bytes is None else shard_bytes
    for name, value in weights.items():
        tensor = value.detach().cpu().to(torch.float16 if half else torch.float32).contiguous()
        size = tensor.numel() * tensor.element_size()
        if used + size > most and shards[-1]:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += size
    architecture = next(name for name, kind in ARCHITECTURES.items() if isinstance(config, kind))
    content = {"architecture": architecture, "network": asdict(config), "card": card or {}}
    with staged_folder(folder, without=["model-*-of-*.safetensors"]) as part:
        for index, shard in enumerate(shards):
            path = part / f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
            save_tensors(shard, path)
        (part / "config.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], NetworkConfig | ReferenceConfig, str]:
    """Weights (float32), config and hash of a checkpoint folder.

    Raises:
        CheckpointError: missing or broken files, or a config of another version.
    """
    try:
        content = read_json(folder / "config.json", MAX_CONFIG_BYTES)
        kind = ARCHITECTURES.get(content.get("architecture", "articulated"))
        if kind is None:
            raise CheckpointError(f"{folder}/config.json: architecture {content['architecture']!r} is not known here")
        config = _config_of(kind, dict(content["network"]), folder / "config.json")
    except OSError as error:
        raise CheckpointError(f"{folder}: no checkpoint here ({error.strerror}: config.json)") from error
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}/config.json: not a checkpoint's config ({str(error)[:200]})") from error
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    count = shards[0].stem.rsplit("-", 1)[-1] if shards else ""
    if not (count.isascii() and count.isdigit() and len(count) < 9 and len(shards) == int(count)):
        raise CheckpointError(f"{folder}: shards of the weights are missing (found {len(shards)})")
    weights: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for shard in shards:
        weights.update(load_tensors(shard, digest))
    return weights, config, digest.hexdigest()[:16]


def load_tensors(path: Path, digest: "hashlib._Hash | None" = None) -> dict[str, Tensor]:
    """The tensors of one file of weights in float32; its bytes are added to the digest.

    Raises:
        CheckpointError: not a regular file of bounded size, broken, or values that are not finite.
    """
    try:
        content = read_bytes(path, MAX_SHARD_BYTES)
        if digest is not None:
            digest.update(content)
        tensors = load(content)
    except OSError as error:
        raise CheckpointError(f"{path}: the weights cannot be read ({error.strerror})") from error
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        message = f"{path}: broken weights file ({str(error)[:200]}); fetch or install it again"
        raise CheckpointError(message) from error
    found: dict[str, Tensor] = {}
    for name in sorted(tensors):
        if not tensors[name].is_floating_point() or not all_finite(whole := tensors[name].float()):
            raise CheckpointError(f"{path}: {name} holds values that are not finite numbers; fetch it again")
        found[name] = whole
    return found


def all_finite(value: Tensor) -> bool:
    """Whether floating-point values are all finite numbers; in an eighth of the time of ``torch.isfinite`` of all."""
    # Where there is a NaN, least and greatest are NaN.
    return value.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(value))).all())


def _config_of(kind: type, values: dict[str, Any], path: Path) -> NetworkConfig | ReferenceConfig:
    """The config of a file's values.

    Raises:
        CheckpointError: fields that are missing or unknown, or of a network that only experiments have.
    """
    if kind is NetworkConfig:
        for name, only in DROPPED_FIELDS.items():
            if (value := values.pop(name, only)) != only:
                raise CheckpointError(f"{path}: {name} {value!r} is an experiment's, which is not read here")
        values = LATER_FIELDS | values
    known = {f.name for f in fields(kind)}
    if missing := known - set(values):
        raise CheckpointError(f"{path}: fields {sorted(missing)} are missing")
    if unknown := set(values) - known:
        raise CheckpointError(f"{path}: fields {sorted(unknown)} are not known here")
    read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    _check_ranges(kind, read, path)
    return kind(**read)


def _check_ranges(kind: type, values: dict[str, Any], path: Path) -> None:
    """Refuse a config of which no network can be built, or one that fills the memory, before any is.

    Raises:
        CheckpointError: the first field of another type, or out of its range.
    """
    ranges = RANGES[kind]
    for name, value in values.items():
        least, most = ranges.get(name, (0, 0))
        default = getattr(kind(), name)
        several = isinstance(default, tuple)
        items = value if several and isinstance(value, tuple) else (value,)
        single = type(default[0]) if several else type(default)
        if isinstance(value, tuple) != several or not all(_fits(item, single, least, most) for item in items):
            shown = f"{least} to {most}" if single in (int, float) else single.__name__
            raise CheckpointError(f"{path}: {name} {str(value)[:60]}: must be {shown}")
        if several and not 1 <= len(items) <= MAX_LEVELS:
            raise CheckpointError(f"{path}: {name} has {len(items)} levels; 1 to {MAX_LEVELS} are possible")
    levels = len(values["down_channels"])
    stride = 2 ** (levels - 1) * (4 if kind is NetworkConfig else 1)
    if values["image_size_px"] % stride:
        raise CheckpointError(f"{path}: image_size_px {values['image_size_px']}: must be a multiple of {stride}")


def _fits(value: Any, kind: type, least: int | float, most: int | float) -> bool:
    if kind is str:
        return isinstance(value, str) and len(value) <= MAX_NAME
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else int) and least <= value <= most


def with_part_layer(weights: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network of one layer for one of two: the second begins as a copy of the first."""
    grown = dict(weights)
    for name in ("head.weight", "head.bias"):
        missing = len(fresh[name]) - len(weights[name])
        if missing > 0:
            grown[name] = torch.cat([weights[name], weights[name][:missing]])
    return grown


class Unfilled(TorchFunctionMode):
    """Modules made within it leave out :mod:`torch.nn.init`: their weights are about to be replaced."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def build_network(config: NetworkConfig | ReferenceConfig) -> PartRMNetwork | ReferenceNetwork:
    """The network of a config, its weights about to be replaced."""
    if isinstance(config, NetworkConfig):
        with Unfilled():
            return PartRMNetwork(config)
    with torch.device("meta"):  # no time lost on 440 M random weights
        return ReferenceNetwork(config)


def checkpoint_folder(name_or_path: str | Path) -> Path:
    """The folder of a bundled model (``base``), or the checkpoint folder that the path already is.

    Raises:
        CheckpointError: neither.
    """
    name, folder = str(name_or_path), Path(name_or_path)
    if name in (bundled := bundled_folders()):
        return bundled[name]
    if not folder.is_dir():
        known = ", ".join(bundled_names()) or "no weights yet: make some with partrm train and give their folder"
        raise CheckpointError(f"model {name!r} is neither bundled ({known}) nor a checkpoint folder")
    return folder


def misfit(error: RuntimeError) -> str:
    """The first reason why a state dict does not fit a network."""
    _, _, reasons = str(error).partition("\n")
    return (reasons or str(error)).strip().partition("\n")[0][:200]


def load_model(
    name_or_path: str | Path, device: torch.device | str = "cpu", precision: Precision = "float32"
) -> LoadedModel:
    """A network in evaluation mode: a bundled name (``base``) or a checkpoint folder.

    Raises:
        CheckpointError: unknown name, broken files, or weights that do not fit the config; or the reference network in
            bfloat16.
        ConfigError: no such precision.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision {precision!r}: must be {' or '.join(get_args(Precision))}")
    folder = checkpoint_folder(name_or_path)
    weights, config, digest = read_checkpoint(folder)
    try:
        network = build_network(config)
    except (ValueError, IndexError, TypeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{folder}/config.json: describes no network ({str(error).splitlines()[0]})") from error
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: weights do not fit the network of its config ({misfit(error)})") from error
    network = network.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network = network.eval().requires_grad_(False)
    if precision == "bfloat16":
        if isinstance(network, ReferenceNetwork):
            raise CheckpointError(f"model {config.name!r}: the reference network is exact in float32 alone")
        use_bfloat16(network)
    return LoadedModel(network, config.name, digest, config, precision)
