"""Windows and lamps that glossy surfaces mirror, occluded ambient light, labels: random ones, object frames."""

import math
from dataclasses import dataclass, replace

import torch

from partrm.rendering.meshes import LAMPS, Decals, Instances, Lights, MeshScene
from partrm.synthesis.scenarios import uniform


@dataclass(frozen=True)
class LightingConfig:
    """How often and how strongly training light differs from the reference's."""

    reference_share: float = 0.3
    """How often the light is the reference's."""
    mirror_share: float = 0.8
    """Of the others: how often glossy surfaces mirror the world."""
    dark_lamp_share: float = 0.4
    """How often each lamp is out."""
    lamp_sharpness: tuple[float, float] = (3.0, 150.0)
    """Of windows to small lamps, uniform in logarithm (:class:`Lights`)."""
    lamp_strength: float = 0.12
    """Most radiance of a lamp as wide as the sky; smaller ones are brighter."""
    occlusion_share: float = 0.7
    """How often surfaces darken each other's ambient light."""
    occlusion_reach: float = 0.14
    """Farthest that they do, object units."""
    decals: int = 2
    """Places for labels on each object."""
    decal_share: float = 0.25
    """How often each of them has one."""


USUAL_LIGHTING = LightingConfig()
"""Of training."""


def with_lamps(lights: Lights, config: LightingConfig, generator: torch.Generator) -> Lights:
    """The lights with windows and lamps mostly above and before the object; in some nothing mirrors or occludes."""
    b, device = len(lights.intensity), generator.device
    lamp = torch.randn(b, LAMPS, 3, generator=generator, device=device)
    lamp[..., 0] += 1.2
    lamp[..., 2] += 0.5
    widest, narrowest = config.lamp_sharpness
    sharpness = uniform((b, LAMPS), math.log(widest), math.log(narrowest), generator).exp()
    # Small sources are brighter, so that each gives about as much light.
    strength = uniform((b, LAMPS, 1), 0.0, config.lamp_strength, generator) * (1 + sharpness[..., None]).clamp(max=40.0)
    warmth = 1 + 0.08 * torch.randn(b, LAMPS, 3, generator=generator, device=device)
    out = uniform((b, LAMPS, 1), 0.0, 1.0, generator) < config.dark_lamp_share
    mirrors = uniform((b,), 0.0, 1.0, generator) < config.mirror_share
    occludes = uniform((b,), 0.0, 1.0, generator) < config.occlusion_share
    mirror = mirrors.float() * uniform((b,), 0.0, 1.6, generator).clamp(max=1.0)
    dimmer = torch.where(mirrors[:, None], uniform((b, 1), 0.6, 1.0, generator), 1.0)
    return replace(
        lights,
        ambient=lights.ambient * dimmer,
        lamp=torch.nn.functional.normalize(lamp, dim=-1),
        lamp_color=torch.where(out, 0.0, strength * warmth.clamp(0.6, 1.4)),
        lamp_sharpness=sharpness,
        mirror=mirror,
        occlusion=occludes.float() * uniform((b,), 0.01, config.occlusion_reach, generator),
    )


def sample_decals(scene: MeshScene, instances: Instances, config: LightingConfig, generator: torch.Generator) -> Decals:
    """Labels and prints on any part, as deep as the part along x, before which most fronts lie."""
    b, count = len(instances.part), config.decals
    parts = (instances.part >= 0).sum(1, keepdim=True)
    u = uniform((b, count, 5), 0.0, 1.0, generator)
    slot = (u[..., 0] * parts).long().minimum(parts - 1)
    sphere = scene.part_sphere[instances.part.gather(1, slot).clamp(min=0).long()]
    radius = sphere[..., 3:]
    half = torch.stack([torch.ones_like(u[..., 1]), 0.03 + 0.25 * u[..., 1] ** 2, 0.03 + 0.2 * u[..., 2] ** 2], -1)
    shift = uniform((b, count, 3), -0.5, 0.5, generator)
    color, ink = uniform((2, b, count, 3), 0.0, 1.0, generator).unbind(0)
    pale, dark = 0.7 + 0.3 * color, 0.25 * ink
    swapped = u[..., 3:4] < 0.3
    return Decals(
        slot=torch.where((u[..., 4] < config.decal_share) & (sphere[..., 3] > 0), slot, -1).int(),
        centre=sphere[..., :3] + shift * radius,
        half=half * radius.clamp(min=1e-3),
        color=torch.where(swapped, dark, pale),
        ink=torch.where(swapped, pale, dark),
    )
