"""A Ray cluster, started once: what is built and predicted on it has the bytes of one process, and errors are whole."""

import os
import pickle
import sys

import pytest
from support.boxes import cabinet
from support.jobs import arguments, tree
from support.tasks import dying, failing, process_of

from partrm.cli import main
from partrm.datasets.build import build
from partrm.datasets.executors import DIED, ExecutorError, Workers, run_tasks
from partrm.datasets.object_writer import BuildConfig
from partrm.files import OutputError
from partrm.jobs import running
from partrm.objects.urdf import save_urdf

pytestmark = pytest.mark.whole_run

ON_RAY = Workers("ray")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of a core each, whose workers find what the tests do; a task whose worker dies is tried once more."""
    ray = pytest.importorskip("ray", reason="the Ray executor is an extra: pip install 'partrm[ray]'")
    pytest.importorskip("pyarrow", reason="Ray Data is an extra: pip install 'partrm[ray]'")
    from ray.cluster_utils import Cluster

    # Nobody looks at the logs or grows the cluster: each process less is seconds less.
    less = {"include_dashboard": False, "no_monitor": True, "include_log_monitor": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.setenv("RAY_TASK_MAX_RETRIES", "1")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1} | less)
        try:
            nodes.add_node(num_cpus=1, include_log_monitor=False)
            ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
            yield ray
        finally:
            ray.shutdown()
            nodes.shutdown()


def test_tasks_run_at_once_and_what_is_built_has_the_same_bytes(cluster, tmp_path):
    pytest.importorskip("warp")
    pytest.importorskip("yourdfpy")
    assert [node["Resources"]["CPU"] for node in cluster.nodes()] == [1, 1]
    assert sum(run_tasks(process_of, [str(tmp_path)] * 6, ON_RAY)) == 6
    assert len({p.name.split("-")[0] for p in tmp_path.glob("*-*")}) >= 2
    small = BuildConfig(size_px=48, views=2, states=2, distractors=0, points=200)
    words = tuple(str(tmp_path / f"{name}.urdf") for name in "ab")
    for word in words:
        save_urdf(cabinet(), word)
    build(words, tmp_path / "one", small)
    build(words, tmp_path / "ray", small, workers=ON_RAY)
    assert tree(tmp_path / "one") == tree(tmp_path / "ray")


def test_what_fails_comes_back(cluster):
    with pytest.raises(OSError, match="No space left"):
        list(run_tasks(failing, ["a"], ON_RAY))
    assert list(run_tasks(dying, ["a"], ON_RAY, lambda task, reason: f"{task} {reason}")) == [f"a {DIED}"]
    with pytest.raises(ExecutorError, match="the Ray cluster has 0"):
        list(run_tasks(failing, ["a"], Workers("ray", gpus=1)))


def test_ray_data_writes_the_same_bytes(folder, whole, tmp_path, cluster):
    assert main(arguments(folder, tmp_path / "ray", "--executor", "ray", "--workers", "2")) == 1
    assert tree(tmp_path / "ray") == whole
    from ray.data._internal.cluster_autoscaler import DefaultAutoscalingCoordinator

    assert DefaultAutoscalingCoordinator.MAX_CONSECUTIVE_FAILURES == 120, "a busy machine ends no batch"


def test_without_ray_data_the_extra_is_named(folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray", reason="the Ray executor is an extra: pip install 'partrm[ray]'")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(arguments(folder, tmp_path / "o", "--executor", "ray")) == 1
    assert "pip install 'partrm[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def full_disk(task, device):
    raise OutputError(f"no space left for {task}")


def test_what_is_raised_on_ray_data_comes_back_whole():
    done = running.RayWorker(full_disk, "cpu")({"number": [3], "task": [pickle.dumps("a")]})
    assert done["number"] == [3]
    assert str(pickle.loads(done["done"][0])) == "no space left for a"
