import gc
import os
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch


def pytest_configure(config):
    # pytest-xdist runs one worker a core: more threads in each, or in the commands that tests start, only fight.
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gc.disable()  # nothing of what is imported goes: see pytest_collection_finish


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Shape checks are off while a test marked ``whole_run`` and the fixtures made for it run."""
    jaxtyping.config.update("jaxtyping_disable", item.get_closest_marker("whole_run") is not None)
    try:
        return (yield)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def pytest_collection_finish():
    # What has been imported stays: no collection of garbage, and tests and commands ask for many, reads it anew.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


def pytest_collection_modifyitems(config, items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A model of random weights, out of a folder."""
    from partrm import PartRM
    from partrm.model.checkpoints import save_checkpoint
    from partrm.model.network import TINY, PartRMNetwork

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, folder)
    return PartRM.from_pretrained(folder, "cpu")


@pytest.fixture
def remembered(monkeypatch):
    """What was asked before is not asked again; tests/test_base_weights.py and tests/test_api.py ask each time."""
    from support.remembered import remember

    remember(monkeypatch)


@pytest.fixture(scope="session")
def forking():
    """The process that forks others is up, and has imported for all of them what the tests' processes need."""
    from multiprocessing import forkserver, get_context

    get_context("forkserver").set_forkserver_preload(["partrm.datasets.forkserver", "support.preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Python 3.11 does not tell it where to look
        forkserver.ensure_running()


@pytest.fixture
def disk(tmp_path):
    """Lays a tmpfs of so many KiB over a folder."""
    mounted: list[Path] = []

    def mount(size_kib: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)]
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def draw_small():
    """Draws pictures of predictions and textures of assets small, for time, by a patch."""

    def draw(patch: pytest.MonkeyPatch) -> None:
        from partrm import api
        from partrm.assets import asset
        from partrm.inference import pipeline, prediction

        baked = asset.bake_texture
        patch.setattr(asset, "bake_texture", lambda *about: baked(*about[:3], min(about[3], 256)))

        patch.setattr(pipeline, "GUIDE_PX", 128)
        patch.setitem(api.DETAIL_PX, "cpu", 64)
        patch.setattr(prediction, "VIEW_PX", 64)
        patch.setattr(prediction, "PICTURE_PX", 96)

    return draw


@pytest.fixture(autouse=True)
def small_pictures(request, monkeypatch, draw_small):
    """Pictures of predictions are drawn small; tests marked ``full_size_pictures`` see them as users do.

    So do fixtures of a module or session, which run before this one.
    """
    if "full_size_pictures" not in request.keywords:
        draw_small(monkeypatch)


@pytest.fixture(scope="session")
def chromium():
    from browsing import CHROMIUM, FLAGS

    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()
