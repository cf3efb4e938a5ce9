"""Random light and labels for training, object frames."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from partrm.data.scenarios import uniform
from partrm.rendering.meshes import LAMPS, Decals, Instances, Lights, MeshScene


def training_lights(b: int, generator: torch.Generator) -> Lights:
    """The reference's light in fifteen samples of a hundred, a random one in the others."""
    random, reference = with_lamps(random_lights(b, generator), generator), Lights.reference(b, generator.device)
    usual = uniform((b,), 0.0, 1.0, generator) < 0.15

    def either(name: str) -> Tensor:
        drawn = getattr(random, name)
        return torch.where(usual.view(-1, *[1] * (drawn.ndim - 1)), getattr(reference, name), drawn)

    return Lights(**{name: either(name) for name in random.__dataclass_fields__})


def random_lights(b: int, generator: torch.Generator) -> Lights:
    """One light somewhere above and a world of random strength and direction, object frame."""
    device = generator.device
    direction = torch.randn(b, 3, generator=generator, device=device)
    direction[:, 2] = direction[:, 2].abs() + 0.3
    direction[:, 0] += 0.7
    direction = torch.nn.functional.normalize(direction, dim=-1)
    sky = torch.randn(b, 3, generator=generator, device=device) * 0.5
    sky[:, 2] += 1.0
    warmth = 1 + 0.08 * torch.randn(b, 3, generator=generator, device=device)
    return replace(
        Lights.reference(b, device),
        position=direction * uniform((b, 1), 3.0, 9.0, generator),
        intensity=uniform((b,), 0.1, 0.7, generator),
        ambient=uniform((b, 1), 0.55, 0.95, generator) * warmth.clamp(0.8, 1.2),
        sky=torch.nn.functional.normalize(sky, dim=-1),
        sky_contrast=uniform((b,), 0.2, 0.75, generator),
    )


def with_lamps(lights: Lights, generator: torch.Generator) -> Lights:
    """The lights with windows and lamps mostly above and before the object; in some nothing mirrors or occludes."""
    b, device = len(lights.intensity), generator.device
    lamp = torch.randn(b, LAMPS, 3, generator=generator, device=device)
    lamp[..., 0] += 1.2
    lamp[..., 2] += 0.5
    sharpness = uniform((b, LAMPS), math.log(3.0), math.log(150.0), generator).exp()
    # Small sources are brighter, so that each gives about as much light.
    strength = uniform((b, LAMPS, 1), 0.0, 0.12, generator) * (1 + sharpness[..., None]).clamp(max=40.0)
    warmth = 1 + 0.08 * torch.randn(b, LAMPS, 3, generator=generator, device=device)
    off = uniform((b, LAMPS, 1), 0.0, 1.0, generator) < 0.4
    mirror = uniform((b,), -0.3, 1.3, generator).clamp(0, 1)
    reach = uniform((b,), -0.06, 0.14, generator).clamp(min=0)
    return replace(
        lights,
        ambient=lights.ambient * uniform((b, 1), 0.6, 1.0, generator),
        lamp=torch.nn.functional.normalize(lamp, dim=-1),
        lamp_color=torch.where(off, 0.0, strength * warmth.clamp(0.6, 1.4)),
        lamp_sharpness=sharpness,
        mirror=mirror,
        occlusion=reach,
    )


DECALS = 2
LABELLED = 0.25
"""How often each of an object's places for labels has one."""


def sample_decals(scene: MeshScene, instances: Instances, generator: torch.Generator) -> Decals:
    """Labels and prints on any part, as deep as the part along x, before which most fronts lie."""
    b = len(instances.part)
    parts = (instances.part >= 0).sum(1, keepdim=True)
    u = uniform((b, DECALS, 5), 0.0, 1.0, generator)
    slot = (u[..., 0] * parts).long().minimum(parts - 1)
    sphere = scene.part_sphere[instances.part.gather(1, slot).clamp(min=0).long()]
    radius = sphere[..., 3:]
    half = torch.stack([torch.ones_like(u[..., 1]), 0.03 + 0.25 * u[..., 1] ** 2, 0.03 + 0.2 * u[..., 2] ** 2], -1)
    shift = uniform((b, DECALS, 3), -0.5, 0.5, generator)
    color, ink = uniform((2, b, DECALS, 3), 0.0, 1.0, generator).unbind(0)
    pale, dark = 0.7 + 0.3 * color, 0.25 * ink
    swapped = u[..., 3:4] < 0.3
    return Decals(
        slot=torch.where((u[..., 4] < LABELLED) & (sphere[..., 3] > 0), slot, -1).int(),
        centre=sphere[..., :3] + shift * radius,
        half=half * radius.clamp(min=1e-3),
        color=torch.where(swapped, dark, pale),
        ink=torch.where(swapped, pale, dark),
    )
