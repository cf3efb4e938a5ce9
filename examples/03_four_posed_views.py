"""Four posed views: with cameras that are known, the back of the object is seen rather than guessed.

Views may lie in a folder with ``cameras.json``, or in memory, as here, with their ``Cameras``: OpenCV camera-to-world
poses in any world frame whose origin is the object. Here they are rendered from a generated refrigerator (extra
``data``), its door a little open. Drags are pixels of the first view.

    python examples/03_four_posed_views.py --out refrigerator
"""

import math
from pathlib import Path

import torch
import tyro

from partrm import Cameras, PartRM
from partrm.geometry.cameras import CANONICAL_FOVY_RAD, orbit_poses
from partrm.procedural import generate
from partrm.rendering.meshes import Instances, Lights, MeshScene, material_table, render_meshes

SIZE_PX = 320


def main(out: Path, seed: int = 3_000_003, device: str = "auto") -> None:
    obj = generate("refrigerator", seed)
    door, q = obj.movable[0], obj.closed_q()
    q[door] += 0.15 * (obj.joint_limits[door, 1] - obj.joint_limits[door, 0])
    azimuth = torch.tensor([-28.0, 62.0, 152.0, 242.0]).deg2rad()
    poses = orbit_poses(azimuth, torch.full((4,), math.radians(18.0)))
    cameras = Cameras(poses, torch.full((4,), CANONICAL_FOVY_RAD), SIZE_PX, SIZE_PX)
    scene = MeshScene.from_objects([obj])
    T = torch.as_tensor(obj.T_object_part(q)).float()[None]
    instances = Instances.of_objects(scene, torch.tensor([0]), T, material_table([obj]))
    images = render_meshes(scene, instances, cameras[None], Lights.reference(1))[0]

    # A drag that a user could draw: from the middle of the door to where that point is when the door opens on.
    middle = torch.as_tensor(obj.parts[door].vertices.mean(0)).float()
    q_end = q.copy()
    q_end[door] = obj.joint_limits[door].mean()
    T_end = torch.as_tensor(obj.T_object_part(q_end)).float()
    points = torch.stack([pose[:3, :3] @ middle + pose[:3, 3] for pose in (T[0, door], T_end[door])])
    start, end = cameras[0].project(points)[0].tolist()

    prediction = PartRM.from_pretrained("base", device).predict(list(images), [(*start, *end)], cameras=cameras)
    prediction.save(out)
    print(f"{prediction.joint.type.name.lower()}, {int(prediction.moving.sum())} Gaussians move; see {out}")


if __name__ == "__main__":
    tyro.cli(main)
