"""Compile what the tests import and call, once for all workers: Python beside sources, numba too, Warp in its cache.

``make test`` runs it while pyright keeps the other core busy: ``PYTHONPATH=tests python tools/compile_kernels.py``.
"""

import io
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import pytest


def collect() -> None:
    """Import all tests as their workers do, with shape checks; from here on also in this process."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = pytest.main(["--collect-only", "-qq", "--jaxtyping-packages=partrm,beartype.beartype"])
    if code:
        sys.exit(printed.getvalue())


def compile_kernels() -> None:
    """Of splats and their gradients, meshes, assets and grasps."""
    import numpy as np
    import torch
    from support.boxes import cabinet
    from support.gaussian_cabinet import cabinet as gaussian_cabinet

    from partrm.assets.asset import AssetSettings
    from partrm.assets.export import export_prediction
    from partrm.cli import main
    from partrm.geometry.cameras import canonical_orbit
    from partrm.rendering.meshes import Instances, Lights, MeshScene, material_table, render_meshes
    from partrm.robotics.grasps import GraspScene, GraspSettings, find_grasps

    if main(["verify", "--device", "cpu"]):
        sys.exit("verify failed")
    obj = cabinet()
    scene = MeshScene.from_objects([obj])
    poses = torch.as_tensor(obj.T_object_part(obj.closed_q())).float()[None]
    instances = Instances.of_objects(scene, torch.tensor([0]), poses, material_table([obj]))
    render_meshes(scene, instances, canonical_orbit(1, 16)[None], Lights.reference(1))
    predicted, settings = gaussian_cabinet(photo=True).predicted, AssetSettings(texture_px=64)
    with tempfile.TemporaryDirectory() as folder:
        export_prediction(predicted, Path(folder) / "asset", settings, ("mjcf",))
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (200, 3))
    way, eye = np.array([1.0, 0.0, 0.0]), np.array([1.5, 0.0, 0.3])
    held = GraspScene(points, points[:, 0] > 0, np.zeros(3), way, np.ones(len(points)), eye)
    find_grasps(held, GraspSettings(places=1), lambda grasp: True)


if __name__ == "__main__":
    collect()
    compile_kernels()
