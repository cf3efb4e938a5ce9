"""Imported by the process that forks those of the tests, once: the packages that cost their processes seconds each."""

from contextlib import suppress
from importlib import import_module

MODULES = (
    "partrm.datasets.build", "partrm.evaluation.session", "partrm.jobs.running", "partrm.robotics.arm_evaluation",
    "partrm.robotics.manipulation", "partrm.training.trainer", "partrm.commands.console",
    "partrm.rendering._cpu_splats.rasterizer", "torch.utils.tensorboard", "tyro", "rich.progress", "warp",
)  # fmt: skip

for name in MODULES:
    with suppress(ModuleNotFoundError):  # of an extra: the tests that need it are skipped
        import_module(name)
