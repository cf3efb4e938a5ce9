"""The reference network on CUDA with its kernels recorded once and replayed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from partrm.geometry.gaussians import Gaussians
from partrm.model.inputs import NetworkInput
from partrm.model.reference import PixelDrags, ReferenceNetwork
from partrm.training.cuda_graphs import WARM_UP


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
        self._inputs = example.to(device).map(torch.clone)
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
        given, static = inputs.leaves(), self._inputs.leaves()
        if {name: leaf.shape for name, leaf in given.items()} != {name: leaf.shape for name, leaf in static.items()}:
            raise ValueError("the inputs have other shapes than those that the network was recorded with")
        for name, leaf in given.items():
            static[name].copy_(leaf, non_blocking=True)
        self._graph.replay()
        return self._answer.map(torch.clone)


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
    tensors = [leaf.to(device, copy=True) for leaf in example.leaves().values()]
    # Converted weights cannot be kept from a pass to the next: an optimizer's step lies between.
    half = torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
    fast = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True)
    with half, fast, torch.cuda.device(device):
        recorded = _OfLeaves(network, _with_tensors(example, tensors))
        torch.cuda.make_graphed_callables(recorded, tuple(tensors))  # from now on its forward replays

    def run(inputs: NetworkInput) -> Gaussians:
        return Gaussians(*recorded(*(leaf.to(device, non_blocking=True) for leaf in inputs.leaves().values())))

    return run


class _OfLeaves(nn.Module):
    """The network as a function of tensors alone; gives the fields of the Gaussians in their order."""

    def __init__(self, network: ReferenceNetwork, example: NetworkInput) -> None:
        super().__init__()
        self.network, self.example = network, example

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = _with_tensors(self.example, tensors)
        drags = PixelDrags.from_drags(inputs.drags, inputs.view_valid.shape[1], self.network.config)
        answer = self.network.reconstruct(self.network.input_map(inputs), drags)
        return tuple(answer.leaves().values())


def half_copy(network: ReferenceNetwork) -> ReferenceNetwork:
    """A copy in bfloat16, channels last, for inference; norms, rays and activations still compute in float32."""
    with torch.device("meta"):
        copy = ReferenceNetwork(network.config)
    weights = {name: value.detach().to(torch.bfloat16) for name, value in network.state_dict().items()}
    copy.load_state_dict(weights, assign=True)
    copy = copy.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return copy.eval().requires_grad_(False)


def _with_tensors(inputs: NetworkInput, tensors: Sequence[Tensor]) -> NetworkInput:
    """The same input around other tensors, in the order of its leaves."""
    return inputs.with_leaves(dict(zip(inputs.leaves(), tensors, strict=True)))
