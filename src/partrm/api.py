"""Weights as users of the Hugging Face Hub expect them: ``from_pretrained``, ``save_pretrained``, ``push_to_hub``."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from partrm.model.checkpoints import CheckpointError, LoadedModel, bundled_names, load_model, save_checkpoint
from partrm.paper.import_weights import IMPORTED_SHARD_BYTES, check_replaceable

FILES = ["config.json", "model-*-of-*.safetensors"]
"""What is fetched of a repository on the Hub."""

CARD = "README.md"

CARD_TEXT = """---
library_name: partrm
pipeline_tag: image-to-3d
tags: [articulated-objects, gaussian-splatting, partrm]
---

# PartRM, preset `{name}`

One or more images and drags in; 3D Gaussians of the object after its part has moved out. {millions:.1f} M parameters,
hash `{hash}`.

    from partrm import PartRM

    model = PartRM.from_pretrained("{repository}")

Say here what these weights were trained on, and under which licence they are.
"""


@dataclass(frozen=True)
class PartRM:
    """A network with its weights: call it with a :class:`partrm.model.inputs.NetworkInput`."""

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
        cls,
        name_or_path: str | Path,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> "PartRM":
        """A bundled model (``base``), a checkpoint folder, or a repository ``owner/name`` on the Hub.

        Args:
            name_or_path: what to load.
            revision: branch, tag or commit of a repository.
            device: where the network shall lie.
            token: of the Hub, for private repositories; None takes the one that you are logged in with.
            cache_dir: where repositories are kept instead of the Hub's usual folder.
            local_files_only: whether to look no further than that.

        Raises:
            CheckpointError: none of these, or one that cannot be fetched or used.
        """
        name = str(name_or_path)
        if name not in bundled_names() and not Path(name).is_dir() and name.count("/") == 1 and name[0] not in "./~":
            found = _snapshot(
                name, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
            )
            return cls(load_model(found, device))
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

    def push_to_hub(
        self,
        repo_id: str,
        private: bool = False,
        half: bool = False,
        token: str | bool | None = None,
        commit_message: str = "Upload PartRM weights",
    ) -> str:
        """Upload the checkpoint, with a model card, to a repository ``owner/name``, made if missing.

        Args:
            repo_id: ``owner/name``.
            private: of a repository that is made now.
            half: store float16 instead of float32.
            token: of the Hub; None takes the one that you are logged in with.
            commit_message: of the upload.

        Returns:
            its address.

        Raises:
            CheckpointError: no access, or no such owner.
        """
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "checkpoint"
            self.save_pretrained(folder, half)
            (folder / CARD).write_text(self.card(repo_id), encoding="utf-8")
            api = huggingface_hub.HfApi(token=token)
            try:
                url = api.create_repo(repo_id, private=private, exist_ok=True)
                # A card that its owner has written stays.
                kept = [CARD] if api.file_exists(repo_id, CARD) else []
                api.upload_folder(
                    repo_id=repo_id, folder_path=folder, commit_message=commit_message, ignore_patterns=kept
                )
            except (HfHubHTTPError, HFValidationError, OSError) as error:
                raise CheckpointError(f"{repo_id}: cannot be uploaded ({_first_line(error)})") from error
        return str(url)

    def card(self, repo_id: str) -> str:
        """Markdown of a model card, with the metadata that the Hub sorts by."""
        count = sum(value.numel() for value in self.network.parameters())
        return CARD_TEXT.format(name=self.model.name, millions=count / 1e6, hash=self.model.hash, repository=repo_id)


def _snapshot(repo_id: str, **options: Any) -> Path:
    """The local copy of a repository's checkpoint, downloaded once."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(repo_id, allow_patterns=FILES, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"{repo_id}: cannot be fetched from the Hub ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
