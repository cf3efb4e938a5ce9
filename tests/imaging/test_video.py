"""Videos, and an ffmpeg that is missing, foreign or broken: one line, before the work."""

import importlib
import sys

import imageio_ffmpeg
import numpy as np
import pytest

from partrm.cli import main
from partrm.imaging.video import VideoError, require_video, save_video

PICTURES = [np.zeros((48, 48, 3), np.uint8)] * 2


def no_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


def no_binary(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.import_module("imageio_ffmpeg._utils"), "_get_ffmpeg_exe", lambda: None)


def no_such_program(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))


WITHOUT = [no_package, no_binary, no_such_program]


@pytest.mark.parametrize("without", WITHOUT)
def test_what_keeps_videos_from_being_written_is_one_line(without, monkeypatch, tmp_path):
    without(monkeypatch, tmp_path)
    with pytest.raises(VideoError, match="install"):
        require_video()
    with pytest.raises(VideoError, match="install"):
        save_video(PICTURES, (48, 48), 12, tmp_path / "a.mp4")


SAYS = "echo pthread_create: Resource temporarily unavailable >&2; echo and more >&2; cat > /dev/null; exit 1"


@pytest.mark.parametrize(
    ("script", "words"),
    [("exit 1", "install"), ("cat > /dev/null; exit 1", "install"), (SAYS, "pthread_create.*ulimit -u")],
)
def test_an_ffmpeg_that_fails_while_it_writes_is_told(script, words, monkeypatch, tmp_path, capfd):
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\nif [ "$1" = -version ]; then echo ffmpeg version 1; exit; fi\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    with pytest.raises(VideoError, match=rf"a\.mp4: ffmpeg .*{words}"):
        save_video(PICTURES, (48, 48), 12, tmp_path / "a.mp4")
    assert capfd.readouterr().err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_a_video_has_all_its_pictures(tmp_path):
    save_video(PICTURES, (48, 48), 12, tmp_path / "a.mp4")
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "a.mp4"))[0] == 2


def test_an_ffmpeg_that_cannot_be_started_is_not_told_as_missing(monkeypatch, tmp_path):
    no_binary(monkeypatch, tmp_path)

    def no_room(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("partrm.imaging.video.subprocess.run", no_room)
    with pytest.raises(VideoError, match=r"^videos need ffmpeg, which cannot be started: .*process"):
        require_video()


def test_jobs_without_videos_need_no_ffmpeg(monkeypatch, tmp_path, capsys):
    """With videos it is told before the weights are looked for, without them the weights are."""
    no_package(monkeypatch, tmp_path)
    (tmp_path / "jobs.jsonl").write_text('{"name": "a", "image": "a.png", "drags": [[1, 2, 9, 9]]}\n')
    jobs = ["predict", "--jobs", str(tmp_path / "jobs.jsonl"), "--out", str(tmp_path / "out"), "--model", "no-such"]
    assert main([*jobs, "--save", "all"]) == 1
    assert "pip install imageio-ffmpeg" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*jobs, "--save", "json", "ply"]) == 1
    assert "imageio-ffmpeg" not in capsys.readouterr().err
