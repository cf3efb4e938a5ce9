"""The product in Python: load weights, predict, and share weights as users of the Hugging Face Hub expect it."""

import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from partrm.errors import PartRMError
from partrm.geometry.cameras import Cameras
from partrm.geometry.drag_numbers import DragError
from partrm.geometry.gaussians import Gaussians
from partrm.imaging.decoding import ImageInput
from partrm.imaging.photos import CutoutRequest, Method, Photo
from partrm.inference.batch import Answer, Job, Steps, predict_many
from partrm.inference.part_search import MIN_CONFIDENCE, FoundPart, Sought, find_parts
from partrm.inference.pipeline import Prepared, ask_network, finish, prepare
from partrm.inference.prediction import Prediction
from partrm.inference.source import (
    DragInput,
    DragPixels,
    SourceInput,
    SourceViews,
    check_drags,
    drag_rows,
    load_source,
)
from partrm.model.checkpoints import CheckpointError, LoadedModel, bundled_names, load_model, save_checkpoint
from partrm.model.devices import Precision, select_device
from partrm.model.hub import hub_errors
from partrm.model.inputs import NetworkInput
from partrm.model.network import NetworkOutput, PartRMNetwork
from partrm.model.reference import ReferenceNetwork
from partrm.paper.import_weights import IMPORTED_SHARD_BYTES, check_replaceable
from partrm.paper.pipeline import StatePrediction, predict_state
from partrm.paper.sam_drags import MODEL as SAM_MODEL
from partrm.paper.sam_drags import load_sam

Result = TypeVar("Result")

FILES = ["config.json", "model-*-of-*.safetensors"]
"""What is fetched of a repository on the Hub."""

DETAIL_PX = {"cpu": 384, "cuda": 512}
"""Side of the grid of splats of what the first image shows, by default."""

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

    prediction = PartRM.from_pretrained("{repository}").predict("photo.jpg", [(812, 640, 700, 655)])
    prediction.save("result")

Say here what these weights were trained on, and under which licence they are.
"""


@dataclass(frozen=True)
class PartRM:
    """The weights and what they predict.

    Example::

        model = PartRM.from_pretrained("base")
        prediction = model.predict("photo.jpg", [(812, 640, 700, 655)])
        prediction.save("result")
    """

    model: LoadedModel
    """The network in evaluation mode, its config, name and hash."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "base",
        device: torch.device | str = "auto",
        *,
        precision: Precision = "float32",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> "PartRM":
        """A bundled model (``base``), a checkpoint folder, or a repository ``owner/name`` on the Hub.

        Args:
            name_or_path: what to load.
            device: where the network runs; ``auto`` takes a CUDA device if there is one.
            precision: of the network's numbers; ``bfloat16`` takes half the time on CPUs with AMX (docs/scale.md).
            revision: branch, tag or commit of a repository.
            token: of the Hub, for private repositories; None takes the one that you are logged in with.
            cache_dir: where repositories are kept instead of the Hub's usual folder.
            local_files_only: whether to look no further than that.

        Raises:
            CheckpointError: none of these, or one that cannot be fetched or used.
            ConfigError: no such precision.
            DeviceError: no such device on this machine.
        """
        device = select_device(device)
        name = str(name_or_path)
        if name not in bundled_names() and not Path(name).is_dir() and name.count("/") == 1 and name[0] not in "./~":
            name_or_path = _snapshot(
                name, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
            )
        return cls(load_model(name_or_path, device, precision))

    @property
    def network(self) -> PartRMNetwork | ReferenceNetwork:
        """The module itself."""
        return self.model.network

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def gives_state_alone(self) -> bool:
        """Whether these are a reference network's weights, which know the state after the drag and nothing else."""
        return isinstance(self.network, ReferenceNetwork)

    def open(
        self,
        image: SourceInput | Photo,
        framing: Literal["auto", "canonical"] = "auto",
        cameras: Cameras | None = None,
        cutout: CutoutRequest | None = None,
        fovy_deg: float | None = None,
    ) -> SourceViews:
        """Check images and frame them for the network, once for any number of drags; see :meth:`predict`."""
        size_px, crop = self.model.config.image_size_px, not self.gives_state_alone
        return load_source(image, size_px, framing, cameras, crop, cutout, fovy_deg)

    def predict(
        self,
        image: SourceInput | SourceViews,
        drags: DragInput | DragPixels,
        framing: Literal["auto", "canonical"] = "auto",
        cameras: Cameras | None = None,
        *,
        box: tuple[float, float, float, float] | None = None,
        mask: ImageInput | None = None,
        cutout: Method = "auto",
        fovy_deg: float | None = None,
        ensemble: bool = True,
        detail_px: int | None = None,
    ) -> Prediction:
        """Move the part that is dragged: exactly what ``partrm predict`` does.

        Args:
            image: a file, a PIL image, an array [h, w, 3 or 4] or a tensor [3 or 4, h, w] (uint8, or floats in
                [0, 1]) of one object: RGBA, or a photograph; a folder of 1 to 4 posed views with ``cameras.json``; a
                sequence of such images with ``cameras``; or what :meth:`open` made of them.
            drags: 1 to 10 rows (x0, y0, x1, y1), pixels of the first image, from a point of the part to where it goes.
            framing: ``auto`` finds a single image's object from its mask; ``canonical`` says that the image has the
                canonical camera already.
            cameras: [views] of a sequence of images, in any world frame.
            box: left, top, right and bottom of the object in a photograph, pixels.
            mask: of the object, the photograph's size: grey, or an image with an alpha channel.
            cutout: ``auto`` takes a plain background where there is one, else GrabCut; ``sam`` needs
                ``partrm[sam]``.
            fovy_deg: vertical field of view of a photograph; by default what its EXIF data tell, if anything.
            ensemble: ask in three ways (as given, mirrored, pulled further) and take the mean of those that agree.
            detail_px: side of the grid of splats of what the first image shows; 0 leaves the network's own. By default
                384 on a CPU, 512 on a GPU.

        Raises:
            ImageError: an image that cannot be used, or images that do not fit their cameras.
            CameraFileError: a broken ``cameras.json``.
            DragError: drags that cannot be used.
            CheckpointError: weights that do not tell parts and joints; see :meth:`predict_state`.
        """
        job = Job(image, drags, "", framing, cameras, box, mask, cutout, fovy_deg, ensemble, detail_px)
        prepared = self._dragged(job)
        (consultation,), seconds = ask_network([prepared], self.model)
        return finish(prepared, consultation, self.model, seconds)

    def predict_batch(
        self, jobs: Iterable[Job], batch: int = 8, threads: int | None = None
    ) -> Iterator[tuple[Job, Answer | PartRMError]]:
        """Each job with its prediction, or with the error that it ends in, in the order of the jobs.

        A job with ``parts`` has those that :meth:`find_parts` finds instead, a tuple of ``FoundPart``.

        Answers are those of :meth:`predict` but for rounding: the network's sums run in another order where several
        jobs share a pass. Images are opened and answers read in threads beside the network; jobs are taken as they are
        needed and at most four times ``batch`` are in memory.

        Example::

            for job, result in model.predict_batch(Job(path, drags, path.name) for path, drags in photos):
                if isinstance(result, Prediction):
                    result.save(f"results/{job.name}")

        Args:
            jobs: what to predict.
            batch: jobs that share a pass of the network, 1 to 256.
            threads: beside it; by default as many as there are cores, at most 16.

        Raises:
            ConfigError: ``batch`` or ``threads`` out of range.
            CheckpointError: weights that do not tell parts and joints.
        """
        return self.each_of(jobs, lambda _, answer: answer, batch, threads)

    def each_of(
        self,
        jobs: Iterable[Job],
        ended: Callable[[Job, Answer], Result],
        batch: int = 8,
        threads: int | None = None,
    ) -> Generator[tuple[Job, Result | PartRMError], None, None]:
        """As :meth:`predict_batch`, with what ``ended`` makes of each answer, in the threads beside the network."""
        count = min(16, os.cpu_count() or 1) if threads is None else threads
        return predict_many(jobs, Steps(self._prepared, ended), self.model, batch, count)

    def _prepared(self, job: Job) -> Prepared | Sought:
        """A job opened and checked; see :meth:`predict` and :meth:`find_parts`."""
        if not job.parts:
            return self._dragged(job)
        if isinstance(job.drags, DragPixels) or len(job.drags):
            raise DragError("parts are found without a drag: give drags or parts, not both")
        return Sought(self._opened(job, ()), job.min_confidence, self._detail(job.detail_px))

    def _dragged(self, job: Job) -> Prepared:
        """A job opened, its drags checked; see :meth:`predict`."""
        drags = job.drags
        given = isinstance(job.image, SourceViews)
        touched = () if given else drags.start if isinstance(drags, DragPixels) else drag_rows(drags)
        views = self._opened(job, touched)
        checked = drags if isinstance(drags, DragPixels) else check_drags(drags, views)
        return prepare(views, checked, job.ensemble, self._detail(job.detail_px))

    def _opened(self, job: Job, touched: DragInput | torch.Tensor) -> SourceViews:
        """A job's views; ``touched`` are rows that begin with a point of the object, pixels."""
        if isinstance(job.image, SourceViews):
            return job.image
        request = cutout_request(job.cutout, job.box, job.mask, touched, device=self.device)
        return self.open(job.image, job.framing, job.cameras, request, job.fovy_deg)

    def find_parts(
        self,
        image: SourceInput | SourceViews,
        framing: Literal["auto", "canonical"] = "auto",
        *,
        box: tuple[float, float, float, float] | None = None,
        mask: ImageInput | None = None,
        cutout: Method = "auto",
        fovy_deg: float | None = None,
        min_confidence: float = MIN_CONFIDENCE,
        detail_px: int | None = None,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[FoundPart, ...]:
        """The parts of an object that seem to move, without a drag: what ``partrm parts`` finds, the surest first.

        Example::

            for part in model.find_parts("cabinet.png"):
                print(part.confidence, part.prediction.joint)

        Args:
            image: as :meth:`predict` takes it.
            framing: likewise, and what follows.
            box: of the object in a photograph.
            mask: of the object.
            cutout: how it is cut out.
            fovy_deg: of a photograph.
            min_confidence: parts below it are left out, [0, 1].
            detail_px: of the predictions.
            advance: called with the numbers of places asked about and of all.

        Raises:
            NoPartsError: nothing is found.
            ImageError: an image that cannot be used.
            CheckpointError: weights that do not tell parts and joints.
            PartNetworkError: weights of another shape than the bundled ones.
            ConfigError: a confidence or a detail out of its range.
        """
        views = image
        if not isinstance(views, SourceViews):
            request = cutout_request(cutout, box, mask, [], device=self.device)
            views = self.open(views, framing, cutout=request, fovy_deg=fovy_deg)
        return find_parts(views, self.model, min_confidence, self._detail(detail_px), advance)

    def _detail(self, detail_px: int | None) -> int:
        """The side asked for, or the usual one of the device."""
        return DETAIL_PX["cpu" if self.device.type == "cpu" else "cuda"] if detail_px is None else detail_px

    def predict_state(self, views: SourceViews, drags: DragPixels) -> StatePrediction:
        """What a reference network answers to four views: the object after the drag, without part and joint.

        Raises:
            ImageError: fewer views.
            CheckpointError: weights of an articulated network; see :meth:`predict`.
        """
        return predict_state(views, drags, self.model)

    def forward(self, inputs: NetworkInput) -> NetworkOutput | Gaussians:
        """One forward pass of the bare network without gradients, ``Gaussians`` from a reference network.

        What an image contradicts is still in there; :meth:`predict` takes it out and reads off part and joint.
        """
        with torch.inference_mode():
            return self.network(inputs)

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

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "checkpoint"
            self.save_pretrained(folder, half)
            (folder / CARD).write_text(self.card(repo_id), encoding="utf-8")
            api = huggingface_hub.HfApi(token=token)
            with hub_errors(CheckpointError, f"{repo_id}: cannot be uploaded"):
                url = api.create_repo(repo_id, private=private, exist_ok=True)
                # A card that its owner has written stays.
                kept = [CARD] if api.file_exists(repo_id, CARD) else []
                api.upload_folder(
                    repo_id=repo_id, folder_path=folder, commit_message=commit_message, ignore_patterns=kept
                )
        return str(url)

    def card(self, repo_id: str) -> str:
        """Markdown of a model card, with the metadata that the Hub sorts by."""
        count = sum(value.numel() for value in self.network.parameters())
        return CARD_TEXT.format(name=self.model.name, millions=count / 1e6, hash=self.model.hash, repository=repo_id)


def cutout_request(
    method: Method,
    box: tuple[float, float, float, float] | None,
    mask: ImageInput | None,
    drags: DragInput | torch.Tensor,
    sam: str = SAM_MODEL,
    device: torch.device | str = "cpu",
) -> CutoutRequest:
    """How the object of a photograph is found, with where drags start and with SAM where it is asked for.

    Raises:
        SegmentationError: SAM cannot be loaded.
    """
    touched = tuple((float(row[0]), float(row[1])) for row in drags)
    segment = load_sam(sam, device).object_mask if method == "sam" else None
    return CutoutRequest(method, box, mask, touched, segment)


def _snapshot(repo_id: str, **options: Any) -> Path:
    """The local copy of a repository's checkpoint, downloaded once."""
    import huggingface_hub

    with hub_errors(CheckpointError, f"{repo_id}: cannot be fetched from the Hub"):
        return Path(huggingface_hub.snapshot_download(repo_id, allow_patterns=FILES, **options))
