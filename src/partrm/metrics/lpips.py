"""LPIPS (Zhang et al. 2018) from weights that lie on this machine: nothing is ever fetched.

The linear layers come with torchmetrics. The backbone's weights are torchvision's file ``vgg16-397923af.pth`` (or
``alexnet-owt-7be5be79.pth``), searched in the hub's cache or given by path. torchmetrics' own class would fetch them,
and asks for torchvision, of which nothing else is needed here; the tests compare with that class.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from partrm.errors import BROKEN_PICKLE, PartRMError

Net = Literal["vgg", "alex"]

FILES: dict[Net, str] = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
"""torchvision's names of the backbones' weights, as its downloads are cached."""

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Widths of the convolutions of each stage (Simonyan and Zisserman 2015)."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and spread of ImageNet's colours in [-1, 1]."""

EPSILON = 1e-8


class LpipsError(PartRMError):
    """Weights that cannot be used; the message says which file and why."""


@dataclass(frozen=True)
class Lpips:
    """LPIPS with one backbone, on the device of its weights."""

    net: Net
    hash: str
    """First 16 hex digits of the SHA-256 of the backbone's file."""
    stages: nn.ModuleList
    """Each stage's features are compared."""
    linear: tuple[Float[Tensor, "_"], ...]
    """Weight of each channel of each stage, >= 0."""

    def to(self, device: torch.device | str) -> "Lpips":
        return Lpips(self.net, self.hash, self.stages.to(device), tuple(w.to(device) for w in self.linear))

    def distances(
        self, images: Sequence[Float[Tensor, "b 3 h w"]], target: Float[Tensor, "b 3 h w"], centred: bool = True
    ) -> list[Float[Tensor, " b"]]:
        """Distance of every image from the target, >= 0, 0 for the same image; one tensor for each of ``images``.

        Args:
            images: sRGB in [0, 1].
            target: compared with each of them, its features taken once.
            centred: bring values to [-1, 1], which the weights were made for.
        """
        with torch.inference_mode():
            wanted = self._features(target, centred)
            return [self._distance(self._features(image, centred), wanted) for image in images]

    def _features(self, image: Float[Tensor, "b 3 h w"], centred: bool) -> list[Tensor]:
        shift, scale = (image.new_tensor(v)[:, None, None] for v in (SHIFT, SCALE))
        x = ((2 * image - 1 if centred else image) - shift) / scale
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x / torch.sqrt(EPSILON + x.square().sum(1, keepdim=True)))
        return found

    def _distance(self, one: list[Tensor], other: list[Tensor]) -> Float[Tensor, " b"]:
        terms = [
            torch.einsum("b c h w, c -> b h w", (a - b).square(), w).mean((1, 2))
            for a, b, w in zip(one, other, self.linear, strict=True)
        ]
        return torch.stack(terms).sum(0)


def features_of(net: Net) -> nn.Sequential:
    """Convolutions of a backbone with torchvision's numbering, so that ``features.N.weight`` fit; random weights."""
    if net == "alex":
        return nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
    layers: list[nn.Module] = []
    channels = 3
    for widths in VGG16:
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def stages_of(net: Net, features: nn.Sequential) -> nn.ModuleList:
    """The backbone cut after the activations that LPIPS compares."""
    ends = {"vgg": (4, 9, 16, 23, 30), "alex": (2, 5, 8, 10, 12)}[net]
    return nn.ModuleList(features[first:last] for first, last in zip((0, *ends), ends, strict=False))


def cached_weights(net: Net = "vgg") -> Path | None:
    """The backbone's weights in the hub's cache, if they are there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILES[net]
    return path if path.is_file() else None


def find_lpips(weights: Literal["auto", "none"] | Path, net: Net = "vgg") -> Lpips | None:
    """LPIPS as the user asks for it: ``auto`` where weights and package are there, ``none`` never, or with a file.

    Raises:
        LpipsError: a file was given and cannot be used, or torchmetrics is missing.
    """
    if weights == "none":
        return None
    if isinstance(weights, Path) or weights != "auto":
        return load_lpips(Path(weights), net)
    path = cached_weights(net)
    return None if path is None or importlib.util.find_spec("torchmetrics") is None else load_lpips(path, net)


def load_lpips(path: Path, net: Net = "vgg") -> Lpips:
    """LPIPS with a backbone's weights of torchvision's layout (.pth or .safetensors), on the CPU.

    Raises:
        LpipsError: torchmetrics is missing, or the file is missing, broken or of another network.
    """
    spec = importlib.util.find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise LpipsError("LPIPS needs the package torchmetrics: pip install 'partrm[eval]'")
    features = features_of(net)
    state = _load_state(path)
    try:
        features.load_state_dict({n.removeprefix("features."): v for n, v in state.items() if "features." in n})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise LpipsError(f"{path}: not the weights of torchvision's {net} ({reason})") from error
    heads = _load_state(Path(spec.origin).parent / "functional" / "image" / "lpips_models" / f"{net}.pth")
    linear = tuple(heads[name].flatten().float() for name in sorted(heads))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    stages = stages_of(net, features).eval().requires_grad_(False)
    return Lpips(net, digest, stages, linear)


def _load_state(path: Path) -> dict[str, Tensor]:
    """A state dict of tensors alone (no pickled code runs)."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise LpipsError(f"{path}: cannot be read as weights (not a regular file)")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (*BROKEN_PICKLE, SafetensorError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:160]
        raise LpipsError(f"{path}: cannot be read as weights ({reason})") from error
