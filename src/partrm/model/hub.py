"""Weights as users of the Hugging Face Hub expect them: ``from_pretrained``, ``save_pretrained``, ``push_to_hub``."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from partrm.model.checkpoints import CheckpointError, LoadedModel, bundled_names, load_model, save_checkpoint
from partrm.model.conversion import IMPORTED_SHARD_BYTES, check_replaceable

FILES = ["config.json", "model-*-of-*.safetensors"]
"""What a repository on the Hub holds."""


@dataclass(frozen=True)
class PartRM:
    """A network with its weights: call it with a :class:`partrm.data.samples.NetworkInput`."""

    model: LoadedModel
    """The network in evaluation mode, its config, name and hash."""

    @property
    def network(self) -> nn.Module:
        """The module itself: articulated or reference."""
        return self.model.network

    def __call__(self, inputs: Any) -> Any:
        """One forward pass without gradients: ``NetworkOutput`` (articulated) or ``Gaussians`` (reference)."""
        with torch.inference_mode():
            return self.model.network(inputs)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, revision: str | None = None, device: torch.device | str = "cpu"
    ) -> "PartRM":
        """A bundled model (``base``), a checkpoint folder, or a repository ``owner/name`` on the Hub.

        Raises:
            CheckpointError: none of these, or one that cannot be fetched or used.
        """
        name = str(name_or_path)
        if name not in bundled_names() and not Path(name).is_dir() and name.count("/") == 1 and name[0] not in "./~":
            return cls(load_model(_snapshot(name, revision), device))
        return cls(load_model(name_or_path, device))

    def save_pretrained(self, folder: str | Path, half: bool = False) -> None:
        """Write a checkpoint folder that :meth:`from_pretrained` and ``--model`` read.

        Args:
            folder: made if missing; an older checkpoint there is replaced.
            half: store float16 instead of float32.

        Raises:
            CheckpointError: the folder holds something else.
        """
        folder = Path(folder)
        check_replaceable(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        card = {"saved_from": self.model.hash}
        weights = self.model.network.state_dict()
        save_checkpoint(weights, self.model.config, folder, card, half=half, shard_bytes=IMPORTED_SHARD_BYTES)

    def push_to_hub(self, repo_id: str, private: bool = False, half: bool = False) -> str:
        """Upload the checkpoint to a repository ``owner/name``, made if missing; returns its address.

        Raises:
            CheckpointError: no access, or no such owner.
        """
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "checkpoint"
            self.save_pretrained(folder, half)
            api = huggingface_hub.HfApi()
            try:
                url = api.create_repo(repo_id, private=private, exist_ok=True)
                api.upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=FILES)
            except (HfHubHTTPError, HFValidationError, OSError) as error:
                raise CheckpointError(f"{repo_id}: cannot be uploaded ({_first_line(error)})") from error
        return str(url)


def _snapshot(repo_id: str, revision: str | None) -> Path:
    """The local copy of a repository's checkpoint, downloaded once."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"{repo_id}: cannot be fetched from the Hub ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
