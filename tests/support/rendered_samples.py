"""Samples with views and novel views of the cabinet, for tests of losses on renders."""

import torch

from partrm.rendering.meshes import MeshScene, material_table
from partrm.synthesis.sampler import SampleConfig, make_samples
from partrm.synthesis.samples import Samples
from partrm.synthesis.scenarios import JointTables
from support.boxes import cabinet


def cabinet_samples() -> Samples:
    """Four samples of 32 px: four views each, one novel view, three drags."""
    objects = [cabinet()]
    scene, tables = MeshScene.from_objects(objects), JointTables.from_objects(objects)
    which = torch.zeros(4, dtype=torch.long)
    config = SampleConfig(image_size_px=32, views=4, novel_views=1, novel_size_px=32)
    generator = torch.Generator().manual_seed(3)
    return make_samples(scene, tables, which, material_table(objects)[which], config, generator, 3)
