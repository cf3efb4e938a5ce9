"""More views from one image, as the paper makes them: Zero123++ v1.2 (Shi et al. 2023) on the parts of ``diffusers``.

A latent diffusion model draws six views as one sheet of 3 x 2 tiles. It sees the input image twice: as one vector of
CLIP that enters the prompt along a ramp, and through *reference attention*: at every step the input's latent, noised
alike, passes the U-Net first, and each self-attention of the sheet also attends to the tokens noted there.

Data flow::

    condition [3,h,w] ─► VAE ─► input latent ──────────┐ notes of each self-attention
                 └─► CLIP ─► ramp + empty prompt ─► U-Net ─► latents ─► VAE ─► sheet ─► 6 tiles

The weights of v1.2 are under CC-BY-NC 4.0; weights fine-tuned on PartDrag-4D (``unet_weights``) draw its cameras.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from partrm.errors import PartRMError, first_line
from partrm.imaging.drawing import to_bytes
from partrm.model.checkpoints import CheckpointError
from partrm.model.hub import hub_errors
from partrm.paper.import_weights import read_public_weights

REPOSITORY = "sudo-ai/zero123plus-v1.2"
"""On the Hugging Face Hub."""

FILES = ("model_index.json", "*/*.json", "*/*.txt", "*/*.safetensors")
"""What is fetched: no pickle files and no code."""

ROWS, COLUMNS, TILE_PX = 3, 2, 320
"""The sheet of views."""

LATENT_SHIFT, LATENT_SCALE = 0.22, 0.75
"""The U-Net's latents are ``(latent - shift) * scale``."""

IMAGE_SCALE = 0.5 / 0.8
"""The VAE sees images of the sheet in [-0.625, 0.625]."""

PREFIXES = ("unet.unet.", "unet.", "")
"""Of the U-Net's names in fine-tuned checkpoints: of a training run (PartRM's), of a pipeline, of the U-Net itself."""

SCHEDULE_BUFFERS = ("betas", "alphas_cumprod", "sqrt_")
"""Beginnings of names that a training run keeps beside the U-Net, and that are not needed."""


class Zero123Error(PartRMError):
    """A model that cannot be loaded, or packages that are missing; the message says what to do."""


@dataclass(frozen=True)
class Zero123Plus:
    """The model's parts, ready to draw."""

    vae: Any
    """``diffusers.AutoencoderKL``."""
    unet: Any
    """``diffusers.UNet2DConditionModel`` whose self-attentions take notes."""
    scheduler: Any
    """``diffusers.EulerAncestralDiscreteScheduler``."""
    vision: Any
    """``transformers.CLIPVisionModelWithProjection``."""
    empty_prompt: Float[Tensor, "1 tokens c"]
    """The text encoder's answer to an empty prompt."""
    ramp: Float[Tensor, "tokens 1"]
    """Weight of the image's vector at each token of the prompt."""
    looks: dict[str, dict]
    """How images are prepared for ``vae`` and ``vision``: the ``preprocessor_config.json`` of each."""
    notes: "AttentionNotes"
    """What self-attentions note of the input image."""
    fine_tuned: bool
    """Whether the U-Net's weights are a user's, taken for those fine-tuned on PartDrag-4D."""
    tile_px: int = TILE_PX

    @torch.inference_mode()
    def draw(
        self, condition: Float[Tensor, "3 h w"], steps: int = 75, guidance: float = 4.0, seed: int = 0
    ) -> Float[Tensor, "6 3 tile tile"]:
        """Six views in [0, 1] of the object in an image.

        Args:
            condition: the image in [0, 1], without alpha (:attr:`background` says what under it).
            steps: of denoising.
            guidance: weight of the image over no image (classifier-free guidance), more than 1.
            seed: of all noise.
        """
        g = torch.Generator().manual_seed(seed)
        device, dtype = self.unet.device, self.unet.dtype

        def noise(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g).to(device, dtype)

        pixels = prepared(condition, self.looks["vae"]).to(device, dtype)[None]
        posterior = self.vae.encode(torch.cat([torch.zeros_like(pixels), pixels])).latent_dist
        reference = posterior.mean + posterior.std * noise(*posterior.mean.shape)
        vector = self.vision(prepared(condition, self.looks["vision"]).to(device, dtype)[None]).image_embeds
        prompts = torch.cat([self.empty_prompt, self.empty_prompt + self.ramp * vector[:, None]])

        stride = 2 ** (len(self.vae.config.block_out_channels) - 1)
        rows, columns = (count * self.tile_px // stride for count in (ROWS, COLUMNS))
        self.scheduler.set_timesteps(steps)
        latents = noise(1, reference.shape[1], rows, columns) * float(self.scheduler.init_noise_sigma)
        for time, sigma in zip(self.scheduler.timesteps, self.scheduler.sigmas.tolist()[:-1], strict=True):
            noised = (reference + sigma * noise(*reference.shape)) / math.sqrt(sigma**2 + 1)
            self.notes.write = True
            self.unet(noised, time, encoder_hidden_states=prompts)
            self.notes.write = False
            both = self.scheduler.scale_model_input(latents, time).expand(2, -1, -1, -1)
            without, with_image = self.unet(both, time, encoder_hidden_states=prompts).sample.chunk(2)
            guided = without + guidance * (with_image - without)
            latents = self.scheduler.step(guided, time, latents, generator=g).prev_sample
        latents = latents / LATENT_SCALE + LATENT_SHIFT
        sheet = self.vae.decode(latents / self.vae.config.scaling_factor).sample / IMAGE_SCALE
        sheet = (0.5 * sheet.float() + 0.5).clamp(0, 1).cpu()
        return rearrange(sheet[0], "c (row h) (column w) -> (row column) c h w", row=ROWS, column=COLUMNS)

    @property
    def background(self) -> float:
        """Grey value under the input image, and of the views' background: fine-tuning was on white."""
        return 1.0 if self.fine_tuned else 127 / 255


class AttentionNotes:
    """Tokens that each self-attention saw of the input image, for the sheet's pass right after."""

    def __init__(self) -> None:
        self.write = False
        self.tokens: dict[str, Tensor] = {}


class ReferenceAttention:
    """A processor of ``diffusers`` attention that notes its tokens, or attends to the noted ones too."""

    def __init__(self, name: str, notes: AttentionNotes) -> None:
        from diffusers.models.attention_processor import AttnProcessor2_0

        self.name, self.notes, self.attend = name, notes, AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The attention's answer; names are those that ``diffusers`` calls with."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if self.notes.write:
            self.notes.tokens[self.name] = context
        else:
            context = torch.cat([context, self.notes.tokens.pop(self.name)], 1)
        return self.attend(attn, hidden_states, context, attention_mask)


def load_zero123(
    model: str | Path = REPOSITORY, unet_weights: str | Path | None = None, device: torch.device | str = "cpu"
) -> Zero123Plus:
    """The model from a folder, or from a repository of the Hub (some 4 GB, downloaded once).

    Args:
        model: a folder in the layout of ``diffusers``, or ``owner/name``.
        unet_weights: a file with fine-tuned weights of the U-Net (``.safetensors``, ``.ckpt``, ``.bin``, ...).
        device: float16 on CUDA, float32 elsewhere.

    Raises:
        Zero123Error: packages are missing, or the model cannot be fetched or read.
        CheckpointError: fine-tuned weights that do not fit or cannot be read.
    """
    try:
        import diffusers
        import transformers
    except ModuleNotFoundError as error:
        raise Zero123Error("Zero123++ needs diffusers and transformers: pip install 'partrm[zero123]'") from error
    folder = Path(model) if Path(model).is_dir() else _fetched(str(model))
    dtype = torch.float16 if torch.device(device).type == "cuda" else torch.float32

    def part(kind: Any, name: str) -> Any:
        return kind.from_pretrained(folder / name, torch_dtype=dtype).to(device).eval().requires_grad_(False)

    try:
        ramp = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["ramping_coefficients"]
        looks = {
            name: json.loads((folder / f"feature_extractor_{where}" / "preprocessor_config.json").read_text())
            for name, where in (("vae", "vae"), ("vision", "clip"))
        }
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
        scheduler = diffusers.EulerAncestralDiscreteScheduler.from_pretrained(
            folder / "scheduler", timestep_spacing="trailing"
        )
        unet = part(diffusers.UNet2DConditionModel, "unet")
        vae, vision = (
            part(diffusers.AutoencoderKL, "vae"),
            part(transformers.CLIPVisionModelWithProjection, "vision_encoder"),
        )
        tokens = tokenizer(
            "", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt"
        ).input_ids
        with torch.inference_mode():
            prompt = part(transformers.CLIPTextModel, "text_encoder")(tokens.to(device)).last_hidden_state
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Zero123Error(f"{model}: not a Zero123++ model that can be read ({first_line(error)})") from error
    if unet_weights is not None:
        load_unet_weights(unet, Path(unet_weights))
    notes = take_notes(unet)
    weights = torch.tensor(ramp, dtype=dtype, device=device)[:, None]
    return Zero123Plus(vae, unet, scheduler, vision, prompt, weights, looks, notes, unet_weights is not None)


def take_notes(unet: Any) -> AttentionNotes:
    """Give every self-attention of a U-Net the processor that takes notes."""
    notes = AttentionNotes()
    processors = dict(unet.attn_processors)
    for name in processors:
        if name.endswith("attn1.processor"):
            processors[name] = ReferenceAttention(name, notes)
    unet.set_attn_processor(processors)
    return notes


def load_unet_weights(unet: Any, path: Path) -> None:
    """Put fine-tuned weights into a U-Net: every weight must be there, in its shape, and nothing unknown beside them.

    Raises:
        CheckpointError: weights that cannot be read or do not fit.
    """
    given, expected = read_public_weights(path), unet.state_dict()
    prefix = next(p for p in PREFIXES if not p or any(name.startswith(p) for name in given))
    ours = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
    unknown = [n for n in given if not n.startswith(prefix) and not n.startswith((*SCHEDULE_BUFFERS, "pipeline."))]
    unknown += [name for name in ours if name not in expected and not name.startswith(SCHEDULE_BUFFERS)]
    missing = [name for name in expected if name not in ours]
    shapes = [name for name, value in expected.items() if name in ours and ours[name].shape != value.shape]
    found = (("missing", missing), ("unexpected", unknown), ("of another shape", shapes))
    problems = [f"{len(names)} {what} ({names[0]})" for what, names in found if names]
    if problems:
        raise CheckpointError(f"{path}: not weights of Zero123++'s U-Net: {'; '.join(problems)}")
    unet.load_state_dict({name: ours[name] for name in expected})


def prepared(image: Float[Tensor, "3 h w"], look: dict) -> Float[Tensor, "3 side side2"]:
    """An image in [0, 1] as CLIP's image processor prepares it: shorter side resized (bicubic), cut, normalised."""
    side = look["size"]["shortest_edge"] if isinstance(look["size"], dict) else look["size"]
    cut = look["crop_size"]
    height, width = (cut["height"], cut["width"]) if isinstance(cut, dict) else (cut, cut)
    picture = Image.fromarray(to_bytes(image))
    factor = side / min(picture.size)
    picture = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    picture = picture.crop((left, top, left + width, top + height))
    values = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)
    values = (values - torch.tensor(look["image_mean"])) / torch.tensor(look["image_std"])
    return rearrange(values, "h w c -> c h w")


def _fetched(repository: str) -> Path:
    """The local copy of a repository's model."""
    import huggingface_hub

    with hub_errors(Zero123Error, f"{repository}: no such folder, and cannot be fetched"):
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=list(FILES)))
