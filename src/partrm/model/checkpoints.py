"""Weights on disk: sharded safetensors with a config beside them; never pickle.

A checkpoint is a folder with ``config.json`` (architecture, the network's config and a model card's facts) and
``model-0000i-of-0000n.safetensors`` shards. The bundled models lie in ``partrm/model/weights/NAME``.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from partrm.model.network import (
    INPUT_CHANNELS,
    SECOND_DEPTH,
    STRIDE,
    NetworkConfig,
    PartRMNetwork,
)
from partrm.model.reference import ReferenceConfig, ReferenceNetwork

SHARD_BYTES = 15 * 2**20
"""Largest size of one shard."""

ARCHITECTURES = {"articulated": NetworkConfig, "reference": ReferenceConfig}
"""Config class of each ``architecture`` in ``config.json``; folders without that entry are articulated."""

LATER_FIELDS = {"head", "drag_levels", "drag_positions", "layers", "depth_modes", "features"}
"""Fields of ``NetworkConfig`` that older checkpoints lack; those networks are as the defaults say."""


SECOND_DEPTH_OF = {"modes": "main", "part_modes": "part"}
"""Whose first depth each second one goes with, groups of the head's channels."""


class CheckpointError(ValueError):
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
            CheckpointError: a network with the state head, which gives the next state alone.
        """
        network = self.network
        if isinstance(network, ReferenceNetwork) or network.config.head == "state":
            whose = "the reference's" if isinstance(network, ReferenceNetwork) else "a"
            raise CheckpointError(
                f"model {self.name!r} has {whose} state head, without the moving part, the joint and the state "
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
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
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
    for index, shard in enumerate(shards):
        save_file(shard, part / f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors")
    architecture = next(name for name, kind in ARCHITECTURES.items() if isinstance(config, kind))
    content = {"architecture": architecture, "network": asdict(config), "card": card or {}}
    (part / "config.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(part, folder)


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
        known = {f.name for f in fields(kind)}
        if odd := (set(content["network"]) ^ known) - (LATER_FIELDS - set(content["network"])):
            raise CheckpointError(f"{folder}/config.json: fields {sorted(odd)} do not match")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["network"].items()}
        config = kind(**values)
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


def grown_inputs(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our network for all of its input channels; the last ones, of older checkpoints, weigh nothing."""
    grown = dict(weights)
    for name, pixels in (("stem.weight", STRIDE**2), ("look_again.weight", 4)):
        missing = pixels * INPUT_CHANNELS - weights[name].shape[1]
        if missing > 0:
            zeros = weights[name].new_zeros(len(weights[name]), missing, *weights[name].shape[2:])
            grown[name] = torch.cat([weights[name], zeros], 1)
    return grown


def started_from(weights: dict[str, Tensor], old: NetworkConfig, network: PartRMNetwork) -> dict[str, Tensor]:
    """Weights of one network as the start of another, which may have more outputs, and features.

    The part's own layer starts as a copy of the first one, a second depth as the first, a little farther away; all
    else that is new as in the fresh network.
    """
    config, fresh = network.config, network.state_dict()
    grown = grown_inputs(weights)
    grown |= {name: value for name, value in fresh.items() if name.startswith("taught.") and name not in weights}
    for name in ("head.weight", "head.bias"):
        given = {group: weights[name][where] for group, where in old.rows.items()}
        made: dict[str, Tensor] = {}
        for group, where in config.rows.items():
            new = fresh[name][where].to(weights[name])
            kept = given[group] if group in given else new[:0]
            if len(kept) < len(new) and group == "part":
                new = made["main"][: len(new)]
            elif len(kept) < len(new) and group in SECOND_DEPTH_OF:
                farther = SECOND_DEPTH if name == "head.bias" else 0.0
                new = torch.cat([made[SECOND_DEPTH_OF[group]][:1] + farther, torch.zeros_like(new[1:])])
            made[group] = torch.cat([kept, new[len(kept) :]])
        grown[name] = torch.cat(list(made.values()))
    return grown


def build_network(config: NetworkConfig | ReferenceConfig) -> PartRMNetwork | ReferenceNetwork:
    """The network of a config, its weights about to be replaced."""
    if isinstance(config, NetworkConfig):
        return PartRMNetwork(config)
    with torch.device("meta"):  # no time lost on 440 M random weights
        return ReferenceNetwork(config)


def load_model(name_or_path: str | Path, device: torch.device | str = "cpu") -> LoadedModel:
    """A network in evaluation mode: a bundled name (``base``) or a checkpoint folder.

    Raises:
        CheckpointError: unknown name, broken files, or weights that do not fit the config.
    """
    name, folder = str(name_or_path), Path(name_or_path)
    if name in bundled_names():
        folder = Path(str(resources.files("partrm.model") / "weights" / name))
    elif not folder.is_dir():
        known = ", ".join(bundled_names()) or "no weights yet: make some with partrm train and give their folder"
        raise CheckpointError(f"model {name!r} is neither bundled ({known}) nor a checkpoint folder")
    weights, config, digest = read_checkpoint(folder)
    try:
        network = build_network(config)
    except (ValueError, IndexError, TypeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{folder}/config.json: describes no network ({str(error).splitlines()[0]})") from error
    try:
        weights = grown_inputs(weights) if isinstance(network, PartRMNetwork) else weights
        network.load_state_dict(weights, assign=isinstance(network, ReferenceNetwork))
    except (RuntimeError, KeyError, IndexError) as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{folder}: weights do not fit the network of its config ({first})") from error
    network = network.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network = network.eval().requires_grad_(False)
    return LoadedModel(network, config.name, digest, config)
