import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
import torch

from partrm.cli import main
from partrm.geometry.gaussians import Gaussians, save_ply
from partrm.model.checkpoints import save_checkpoint
from partrm.model.network import TINY, PartRMNetwork
from partrm.viewer.server import ServerError, free_port


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def splats(tmp_path):
    n = 20
    gaussians = Gaussians(
        torch.rand(n, 3) - 0.5,
        torch.tensor([1.0, 0, 0, 0]).expand(n, 4),
        torch.full((n, 3), 0.02),
        torch.full((n,), 0.9),
        torch.rand(n, 3),
    )
    save_ply(gaussians, tmp_path / "a.ply")
    return tmp_path / "a.ply"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_prints_its_address_when_ready_and_stops_when_told(how, model, splats):
    # Gaussians alone need no model.
    given = ["--model", str(model), "--device", "cpu"] if how == signal.SIGINT else [str(splats), "--model", "none"]
    command = [sys.executable, "-m", "partrm", "view", *given, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("partrm view: http://127.0.0.1:")
        assert urllib.request.urlopen(line.split()[2], timeout=20).status == 200
        process.send_signal(how)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "partrm view: stopped"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("--port", "99999"), "--port 99999: give 0 to 65535"),
        (("--port", "-1"), "--port -1: give 0 to 65535"),
        (("--host", "192.0.2.1"), "192.0.2.1, port 8080: cannot listen there"),
        (("--host", "no such.name"), "--host no such.name: no such address"),
        (("--public-host", "https://a.example/b"), "--public-host https://a.example/b: give a name as"),
    ],
)
def test_places_that_cannot_be_listened_at_are_one_line(place, words, splats, capsys):
    assert main(["view", str(splats), "--model", "none", *place]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_port_in_use_is_passed_over_and_the_last_one_is_not():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port("127.0.0.1", port) > port
    with socket.socket() as last:
        last.bind(("127.0.0.1", 65535))
        last.listen()
        with pytest.raises(ServerError, match="--port 65535: nothing free from there to 65535"):
            free_port("127.0.0.1", 65535)


def test_what_cannot_be_opened_is_one_line(tmp_path, model, capsys):
    assert main(["view", str(tmp_path / "nothing.png"), "--model", str(model), "--device", "cpu"]) == 1
    assert main(["view", "--model", str(tmp_path / "none"), "--device", "cpu"]) == 1
    (tmp_path / "broken.ply").write_bytes(b"ply\nnot really")
    assert main(["view", str(tmp_path / "broken.ply"), "--model", str(tmp_path / "none")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "no such file" in lines[0]
    assert "neither bundled" in lines[1]
    assert "broken.ply" in lines[2]
