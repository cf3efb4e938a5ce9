"""Records of tensors behave as the tuple of their tensors would, whatever they hold beside them."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from partrm.geometry.cameras import Cameras, canonical_orbit
from partrm.geometry.gaussians import Gaussians
from partrm.geometry.tensor_record import TensorRecord


@dataclass(frozen=True)
class Scene(TensorRecord):
    cameras: Cameras
    weight: Tensor
    names: tuple[str, ...] = ("a", "b")
    extra: Cameras | None = None


def scene(seed: int, count: int = 4, extra: bool = False) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    cameras = canonical_orbit(count, 8, fovy_rad=0.5 + seed)
    return Scene(cameras, torch.rand(count, 3, generator=generator), extra=cameras if extra else None)


def test_leaves_name_all_tensors_in_order_and_rebuild_the_record():
    value = scene(0, extra=True)
    leaves = value.leaves()
    assert list(leaves) == [
        *("cameras.T_world_camera", "cameras.fovy_rad", "weight"),
        *("extra.T_world_camera", "extra.fovy_rad"),
    ]
    turned = {name: leaf.flip(0) for name, leaf in leaves.items()}
    rebuilt = value.with_leaves(turned)
    assert all(rebuilt.leaves()[name] is turned[name] for name in leaves)
    assert (rebuilt.names, rebuilt.cameras.width) == (value.names, 8)
    with pytest.raises(ValueError, match=r"weight"):
        value.with_leaves({name: leaf for name, leaf in leaves.items() if name != "weight"})


@pytest.mark.parametrize("index", [1, slice(1, 3), torch.tensor([3, 0, 0]), torch.tensor([True, False, True, True])])
def test_indexing_indexes_each_tensor(index):
    value = scene(0)
    for name, leaf in value[index].leaves().items():
        assert torch.equal(leaf, value.leaves()[name][index])


def test_joining_is_the_inverse_of_cutting():
    value = scene(0)
    joined = Scene.cat([value[:1], value[1:3], value[3:]])
    assert all(torch.equal(leaf, value.leaves()[name]) for name, leaf in joined.leaves().items())
    assert joined.names == value.names


def test_records_of_other_sizes_names_or_tensors_are_not_joined():
    wide = Scene(scene(0).cameras.resized(16), scene(0).weight)
    for other in (wide, scene(1, extra=True), Scene(scene(0).cameras, scene(0).weight, ("c",))):
        with pytest.raises(ValueError, match="differ in more than their rows"):
            Scene.cat([scene(0), other])
    with pytest.raises(ValueError, match="no Scene"):
        Scene.cat([])
    with pytest.raises(ValueError, match="from the front"):
        Scene.cat([scene(0)], dim=-1)


def test_moving_reaches_nested_tensors_only():
    moved = scene(0, extra=True).to("meta")
    assert all(leaf.device.type == "meta" for leaf in moved.leaves().values())
    assert moved.names == ("a", "b")


def test_sets_of_gaussians_are_joined_behind_their_batch(generator):
    def some(n: int) -> Gaussians:
        widths = ((3,), (4,), (3,), (), (3,))
        return Gaussians(*(torch.rand(2, n, *w, generator=generator) for w in widths))

    first, second = some(3), some(5)
    whole = Gaussians.concatenate([first, second])
    assert len(whole) == 8
    for name, leaf in whole.leaves().items():
        assert torch.equal(leaf[:, :3], first.leaves()[name])
        assert torch.equal(leaf[:, 3:], second.leaves()[name])
