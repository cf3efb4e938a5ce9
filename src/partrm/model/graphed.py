"""Networks on CUDA with their kernels recorded once and replayed: the reference network's passes, our training's.

One forward pass of ``big`` launches over a thousand kernels, which takes Python longer than the device needs to run
them; a CUDA graph launches them all at once.
"""

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor, nn

from partrm.cameras import Cameras, canonical_orbit
from partrm.data.samples import VIEWS, NetworkInput, to_device
from partrm.drags import MAX_DRAGS, Drags
from partrm.gaussians import Gaussians
from partrm.model.network import PartRMNetwork, input_map
from partrm.model.reference import PixelDrags, ReferenceNetwork

WARM_UP = 3
"""Runs before the recording: Triton compiles, cuDNN chooses its kernels."""


class GraphedReference:
    """Callable like the network itself, without gradients, for inputs of one shape."""

    def __init__(self, network: ReferenceNetwork, example: NetworkInput) -> None:
        """Record the network.

        Args:
            network: on a CUDA device; its weights are copied.
            example: an input of the shapes that later ones have (any values).

        Raises:
            ValueError: a network that is not on a CUDA device.
        """
        device = network.mix.weight.device
        if device.type != "cuda":
            raise ValueError(f"CUDA graphs need a network on a CUDA device, not on {device}")
        self.network = half_copy(network)
        self._inputs = to_device(example, device)
        self._static = [leaf.clone() for leaf in leaves(self._inputs)]
        self._inputs = with_leaves(self._inputs, self._static)
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        fast = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True)
        with torch.no_grad(), fast, torch.cuda.device(device):
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self._run()
            torch.cuda.current_stream(device).wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._answer = self._run()

    def _run(self) -> Gaussians:
        inputs = self._inputs
        drags = PixelDrags.from_drags(inputs.drags, inputs.view_valid.shape[1], self.network.config)
        return self.network.reconstruct(self.network.input_map(inputs), drags)

    def __call__(self, inputs: NetworkInput) -> Gaussians:
        """Gaussians [b, n] of the next state, float32; inputs may lie on any device.

        Raises:
            ValueError: a view is absent, or shapes are others than those of the recording.
        """
        if not bool(inputs.view_valid.all()):
            raise ValueError(f"the reference network needs all {inputs.view_valid.shape[1]} views of the object")
        given = leaves(inputs)
        if [leaf.shape for leaf in given] != [leaf.shape for leaf in self._static]:
            raise ValueError("the inputs have other shapes than those that the network was recorded with")
        for static, leaf in zip(self._static, given, strict=True):
            static.copy_(leaf, non_blocking=True)
        self._graph.replay()
        return Gaussians(**{f.name: getattr(self._answer, f.name).clone() for f in fields(Gaussians)})


def graph_training(network: ReferenceNetwork, example: NetworkInput) -> Callable[[NetworkInput], Gaussians]:
    """The network as two CUDA graphs, forward and backward, under bfloat16 autocast; its own weights get gradients.

    Each answer lies where the last one did: take its gradient before the next call. The weights must stay in place, as
    optimizers leave them.

    Args:
        network: on a CUDA device, in the layout that it keeps.
        example: an input of the shapes that later ones have (any values).

    Returns:
        inputs of those shapes to Gaussians [b, n] of the next state.

    Raises:
        ValueError: a network that is not on a CUDA device.
    """
    device = network.mix.weight.device
    if device.type != "cuda":
        raise ValueError(f"CUDA graphs need a network on a CUDA device, not on {device}")
    tensors = [leaf.to(device, copy=True) for leaf in leaves(example)]
    # Converted weights cannot be kept from a pass to the next: an optimizer's step lies between.
    half = torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
    fast = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True)
    with half, fast, torch.cuda.device(device):
        recorded = _OfLeaves(network, with_leaves(example, tensors))
        torch.cuda.make_graphed_callables(recorded, tuple(tensors))  # from now on its forward replays

    def run(inputs: NetworkInput) -> Gaussians:
        return Gaussians(*recorded(*(leaf.to(device, non_blocking=True) for leaf in leaves(inputs))))

    return run


class _OfLeaves(nn.Module):
    """The network as a function of tensors alone; gives the fields of the Gaussians in their order."""

    def __init__(self, network: ReferenceNetwork, example: NetworkInput) -> None:
        super().__init__()
        self.network, self.example = network, example

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = with_leaves(self.example, list(tensors))
        drags = PixelDrags.from_drags(inputs.drags, inputs.view_valid.shape[1], self.network.config)
        answer = self.network.reconstruct(self.network.input_map(inputs), drags)
        return tuple(getattr(answer, field.name) for field in fields(Gaussians))


def half_copy(network: ReferenceNetwork) -> ReferenceNetwork:
    """A copy in bfloat16, channels last, for inference; norms, rays and activations still compute in float32."""
    with torch.device("meta"):
        copy = ReferenceNetwork(network.config)
    weights = {name: value.detach().to(torch.bfloat16) for name, value in network.state_dict().items()}
    copy.load_state_dict(weights, assign=True)
    copy = copy.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return copy.eval().requires_grad_(False)


def leaves(inputs: NetworkInput) -> list[Tensor]:
    """The tensors of an input, in a fixed order."""
    cameras, drags = inputs.cameras, inputs.drags
    parts = [drags.start, drags.end, drags.view, drags.valid]
    return [inputs.images, cameras.T_world_camera, cameras.fovy_rad, inputs.view_valid, *parts, inputs.lens_known]


def with_leaves(inputs: NetworkInput, tensors: list[Tensor]) -> NetworkInput:
    """The same input around other tensors (inverse of :func:`leaves`)."""
    images, poses, fovy_rad, view_valid, start, end, view, valid, lens_known = tensors
    cameras = type(inputs.cameras)(poses, fovy_rad, inputs.cameras.width, inputs.cameras.height)
    return NetworkInput(images, cameras, view_valid, type(inputs.drags)(start, end, view, valid), lens_known)


class _AutocastUNet(nn.Module):
    """The network's U-Net in bfloat16, as a module whose forward pass takes and gives tensors only."""

    def __init__(self, network: PartRMNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> Tensor:
        # A cache of cast weights would outlive the recording.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            return self.network.unet(*tensors)


def record_training(network: PartRMNetwork, example: NetworkInput) -> Callable[..., Tensor]:
    """Record the U-Net's forward and backward pass in bfloat16, for inputs of the example's shapes.

    The answer, set as the network's ``recorded``, is replayed by its forward pass, gradients included. Record before
    the network is wrapped for distributed training: its hooks break a recording, not a replay.

    Args:
        network: in training mode, on a CUDA device; its weights may change in place, but not move.
        example: an input of the shapes that later ones have (any values), on the same device.

    Raises:
        ValueError: a network that is not on a CUDA device.
    """
    if example.images.device.type != "cuda" or network.head.weight.device.type != "cuda":
        raise ValueError("CUDA graphs need a network and inputs on a CUDA device")
    drags = example.drags
    tensors = (input_map(example), drags.start, drags.end, drags.view, drags.valid)
    copies = tuple(tensor.detach().clone() for tensor in tensors)
    module = torch.cuda.make_graphed_callables(_AutocastUNet(network).train(), copies, num_warmup_iters=WARM_UP)

    def replay(*inputs: Tensor) -> Tensor:  # the module itself would be registered as a part of its own part
        raw = module(*inputs)
        assert isinstance(raw, Tensor)
        return raw

    return replay


def blank_input(batch: int, size_px: int, device: torch.device | str) -> NetworkInput:
    """An input of the shapes that training has, all views valid and without drags."""
    orbit = canonical_orbit(VIEWS, size_px, device)
    poses, fovy = orbit.T_world_camera.repeat(batch, 1, 1, 1), orbit.fovy_rad.repeat(batch, 1)
    images = torch.zeros(batch, VIEWS, 4, size_px, size_px, device=device)
    points = torch.full((batch, MAX_DRAGS, 2), 0.5, device=device)
    nothing = torch.zeros(batch, MAX_DRAGS, dtype=torch.long, device=device)
    drags = Drags(points, points.clone(), nothing, nothing.bool())
    cameras = Cameras(poses, fovy, size_px, size_px)
    valid = torch.ones(batch, VIEWS, dtype=torch.bool, device=device)
    return NetworkInput(images, cameras, valid, drags, valid.clone())
