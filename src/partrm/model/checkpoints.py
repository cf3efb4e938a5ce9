"""Weights on disk: sharded safetensors with a config beside them; never pickle.

A checkpoint is a folder with ``config.json`` (architecture, the network's config and a model card's facts) and
``model-0000i-of-0000n.safetensors`` shards. The bundled models lie in ``partrm/model/weights/NAME``.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from partrm.errors import PartRMError
from partrm.files import staged_folder
from partrm.model.depth_choice import DEPTH_CHANNELS, SECOND_DEPTH
from partrm.model.network import STATE_CHANNELS, NetworkConfig, PartRMNetwork
from partrm.model.reference import ReferenceConfig, ReferenceNetwork

SHARD_BYTES = 15 * 2**20
"""Largest size of one shard."""

ARCHITECTURES = {"articulated": NetworkConfig, "reference": ReferenceConfig}
"""Config class of each ``architecture`` in ``config.json``; folders without that entry are articulated."""

DROPPED_FIELDS = {"joint_votes": True, "head": "articulated", "drag_levels": [], "drag_positions": "fractions"}
"""Fields of older checkpoints' ``NetworkConfig``, each with the one value that our network still has."""

LATER_FIELDS = {"layers": 1, "features": "none", "depth_modes": 1}
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
    """Names of the models in the package."""
    folder = resources.files("partrm.model") / "weights"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / "config.json").is_file())


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
            save_file(shard, part / f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors")
        (part / "config.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], NetworkConfig | ReferenceConfig, str]:
    """Weights (float32), config and hash of a checkpoint folder.

    Raises:
        CheckpointError: missing or broken files, or a config of another version.
    """
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = ARCHITECTURES.get(content.get("architecture", "articulated"))
        if kind is None:
            raise CheckpointError(f"{folder}/config.json: architecture {content['architecture']!r} is not known here")
        config = _config_of(kind, dict(content["network"]), folder / "config.json")
    except OSError as error:
        raise CheckpointError(f"{folder}: no checkpoint here ({error.strerror}: config.json)") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}/config.json: not a checkpoint's config ({error})") from error
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    if not shards or len(shards) != int(shards[0].stem.rsplit("-", 1)[-1]):
        raise CheckpointError(f"{folder}: shards of the weights are missing (found {len(shards)})")
    weights: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(shard.read_bytes())
        try:
            weights.update(load_file(shard))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{shard}: broken weights file ({error}); fetch or install it again") from error
    return {name: value.float() for name, value in weights.items()}, config, digest.hexdigest()[:16]


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
    return kind(**read)


def grown(
    weights: dict[str, Tensor], old: NetworkConfig | ReferenceConfig, network: PartRMNetwork
) -> dict[str, Tensor]:
    """Weights of one network as the start of another that may say more and see features, with the same answers.

    A second layer begins as a copy of the first, a second depth as the first, a little farther away and less likely;
    what brings features in as in the fresh network: zero. All other weights stay as they are.
    """
    fresh, found = network.state_dict(), dict(weights)
    found |= {name: value for name, value in fresh.items() if name.startswith("taught.") and name not in weights}
    config = network.config
    if not isinstance(old, NetworkConfig) or not set(old.rows) <= set(config.rows):
        return found
    if len(fresh["head.bias"]) != sum(config.outputs):  # an experiment's head
        return found
    for name in ("head.weight", "head.bias"):
        made = {group: weights[name][where] for group, where in old.rows.items()}
        if "part" in config.rows and "part" not in made:
            made["part"] = made["first"][: sum(STATE_CHANNELS)]
            if "first depths" in made:
                made["part depths"] = made["first depths"]
        for group in config.rows:
            if group not in made:
                farther = SECOND_DEPTH if name == "head.bias" else 0.0
                second = made[group.removesuffix(" depths")][:1] + farther
                made[group] = torch.cat([second, second.new_zeros(sum(DEPTH_CHANNELS) - 1, *second.shape[1:])])
        found[name] = torch.cat([made[group] for group in config.rows])
    return found


def build_network(config: NetworkConfig | ReferenceConfig) -> PartRMNetwork | ReferenceNetwork:
    """The network of a config, its weights about to be replaced."""
    if isinstance(config, NetworkConfig):
        return PartRMNetwork(config)
    with torch.device("meta"):  # no time lost on 440 M random weights
        return ReferenceNetwork(config)


def checkpoint_folder(name_or_path: str | Path) -> Path:
    """The folder of a bundled model (``base``), or the checkpoint folder that the path already is.

    Raises:
        CheckpointError: neither.
    """
    name, folder = str(name_or_path), Path(name_or_path)
    if name in bundled_names():
        return Path(str(resources.files("partrm.model") / "weights" / name))
    if not folder.is_dir():
        known = ", ".join(bundled_names()) or "no weights yet: make some with partrm train and give their folder"
        raise CheckpointError(f"model {name!r} is neither bundled ({known}) nor a checkpoint folder")
    return folder


def load_model(name_or_path: str | Path, device: torch.device | str = "cpu") -> LoadedModel:
    """A network in evaluation mode: a bundled name (``base``) or a checkpoint folder.

    Raises:
        CheckpointError: unknown name, broken files, or weights that do not fit the config.
    """
    folder = checkpoint_folder(name_or_path)
    weights, config, digest = read_checkpoint(folder)
    try:
        network = build_network(config)
    except (ValueError, IndexError, TypeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{folder}/config.json: describes no network ({str(error).splitlines()[0]})") from error
    try:
        network.load_state_dict(weights, assign=isinstance(network, ReferenceNetwork))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{folder}: weights do not fit the network of its config ({first})") from error
    network = network.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network = network.eval().requires_grad_(False)
    return LoadedModel(network, config.name, digest, config)
