"""Render the two bundled example images: real objects from the gymnasium-robotics wheel, and a drag on each.

Run once, with ``make eval-objects`` done, from the repository root: ``python tools/docs/make_example_images.py``.
The object's joints are used only to print a drag that a user could have drawn.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from partrm.geometry.cameras import CANONICAL_FOVY_RAD, Cameras, orbit_poses
from partrm.imaging.images import save_image
from partrm.objects.real_objects import load_real_object
from partrm.rendering.meshes import (
    Instances,
    Lights,
    MeshScene,
    material_table,
    render_meshes,
    trace_surfaces,
)

FOLDER = Path("src/partrm/example_images")


def render(obj, part, opening, azimuth_deg, elevation_deg, size_px, distance=2.4):
    """RGBA image [4, size, size] of an object with one joint opened by a fraction, and a drag that opens it on."""
    scene, materials = MeshScene.from_objects([obj]), material_table([obj])
    q = obj.closed_q()
    lower, upper = obj.joint_limits[part]
    far = upper if abs(upper) >= abs(lower) else lower
    angles = torch.tensor([np.radians(azimuth_deg), np.radians(elevation_deg)], dtype=torch.float32)
    T = orbit_poses(angles[0], angles[1], distance)
    cameras = Cameras(T[None, None], torch.full((1, 1), CANONICAL_FOVY_RAD), size_px, size_px)

    def posed(fraction):
        q[part] = fraction * far
        T_object_part = torch.from_numpy(obj.T_object_part(q)).float()
        return T_object_part, Instances.of_objects(scene, torch.tensor([0]), T_object_part[None], materials)

    T_start, start = posed(opening)
    T_end, _ = posed(opening + 0.4)
    image = render_meshes(scene, start, cameras, Lights.reference(1), samples_per_axis=4)[0, 0]
    seen = trace_surfaces(scene, start, cameras)
    on_part = (seen.part[0, 0] == part).flatten().nonzero().flatten()
    points = seen.point_part[0, 0].reshape(-1, 3)[on_part]
    travel = (points @ (T_end - T_start)[part, :3, :3].T + (T_end - T_start)[part, :3, 3]).norm(dim=-1)
    grip = points[travel.argsort()[int(0.9 * len(travel))]]
    ends = torch.stack([T[part, :3, :3] @ grip + T[part, :3, 3] for T in (T_start, T_end)])
    return image, cameras[0, 0].project(ends)[0].flatten()


def photograph(rgba, height, width, corner):
    """The object on a plain, unevenly lit wall, off-centre, with a sensor's noise: RGB bytes [height, width, 3]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / width
    wall = np.array([0.80, 0.79, 0.76]) * (1.02 - 0.10 * x - 0.05 * y)[..., None]
    size, (left, top) = rgba.shape[-1], corner
    rgb, alpha = rgba[:3].permute(1, 2, 0).numpy(), rgba[3].numpy()[..., None]
    place = wall[top : top + size, left : left + size]
    wall[top : top + size, left : left + size] = rgb * alpha + place * (1 - alpha)
    noisy = wall + rng.normal(0, 0.006, wall.shape)
    return (noisy.clip(0, 1) * 255).round().astype(np.uint8)


def main():
    FOLDER.mkdir(exist_ok=True)
    image, drag = render(
        load_real_object("kitchen-microwave"), part=1, opening=0.25, azimuth_deg=-25, elevation_deg=25, size_px=256
    )
    save_image(image, FOLDER / "microwave.png")
    print("microwave.png --drag", ",".join(f"{v:.0f}" for v in drag.tolist()))

    image, drag = render(
        load_real_object("kitchen-hinge-cabinet"), part=1, opening=0.2, azimuth_deg=20, elevation_deg=20, size_px=640
    )
    corner = (280, 60)
    Image.fromarray(photograph(image, 720, 1080, corner)).save(FOLDER / "cabinet_photo.jpg", quality=92)
    moved = drag + torch.tensor([*corner, *corner])
    print("cabinet_photo.jpg --drag", ",".join(f"{v:.0f}" for v in moved.tolist()))


if __name__ == "__main__":
    main()
