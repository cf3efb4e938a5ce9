"""``partrm data build|check|show``: arguments are looked at before the work, paths are printed as they are."""

import numpy as np
import pytest
from support.boxes import cabinet

from partrm.cli import main
from partrm.objects.urdf import save_urdf


@pytest.mark.parametrize(
    ("out", "message"),
    [("nodir/sheet.png", "no such folder"), ("sheet.xyz", "ends as pictures do"), ("sheet", "ends as pictures do")],
)
def test_show_looks_at_its_out_before_it_draws(tmp_path, monkeypatch, capsys, out, message):
    monkeypatch.setattr("partrm.datasets.contact_sheet.contact_sheet", lambda *_: pytest.fail("it was drawn"))
    assert main(["data", "show", str(tmp_path), "--out", str(tmp_path / out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / out) in line
    assert message in line


@pytest.mark.parametrize("name", ["sheet.PNG", "sheet.jpg", "sheet.webp", "sheet.tif", "sheet.bmp"])
def test_show_writes_every_kind_of_picture_that_it_takes(tmp_path, monkeypatch, name):
    from PIL import Image

    monkeypatch.setattr("partrm.datasets.contact_sheet.contact_sheet", lambda *_: np.full((4, 6, 3), 9, np.uint8))
    assert main(["data", "show", str(tmp_path), "--out", str(tmp_path / name)]) == 0
    with Image.open(tmp_path / name) as sheet:
        assert sheet.size == (6, 4)


def test_show_replaces_its_own_sheets_and_no_other_picture(tmp_path, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.setattr("partrm.datasets.contact_sheet.contact_sheet", lambda *_: np.full((4, 6, 3), 9, np.uint8))
    for name in ("sheet.png", "sheet.jpg"):
        assert main(["data", "show", str(tmp_path), "--out", str(tmp_path / name)]) == 0
        assert main(["data", "show", str(tmp_path), "--out", str(tmp_path / name)]) == 0
    Image.new("RGB", (6, 4)).save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("mine")
    for name in ("photo.png", "text.png"):
        before = (tmp_path / name).read_bytes()
        assert main(["data", "show", str(tmp_path), "--out", str(tmp_path / name)]) == 1
        assert f"{name}: was not written by partrm" in capsys.readouterr().err
        assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_folder_that_is_not_there_is_named_at_once(tmp_path, capsys, command):
    assert main(["data", command, str(tmp_path / "nosuch")]) == 1
    printed = capsys.readouterr()
    assert printed.err == f"partrm data: {tmp_path / 'nosuch'}: no such folder\n"
    assert printed.out == "", "no progress bar"


@pytest.mark.parametrize("folder", ["a[old]", "b[/x]", "c:smile:"])
def test_paths_are_printed_as_they_are(tmp_path, monkeypatch, capsys, folder):
    pytest.importorskip("warp")
    pytest.importorskip("yourdfpy")
    monkeypatch.chdir(tmp_path)
    save_urdf(cabinet(), tmp_path / folder / "good.urdf")
    (tmp_path / folder / "bad.urdf").write_text("<robot name='x'/>")
    out = f"{folder}/data"
    small = ["--states", "2", "--distractors", "0", "--size-px", "32", "--points", "200"]
    assert main(["data", "build", f"{folder}/good.urdf", f"{folder}/bad.urdf", "--out", out, *small]) == 0
    printed = capsys.readouterr().out
    assert f"refused {tmp_path / folder / 'bad.urdf'}: {tmp_path / folder / 'bad.urdf'}: no link\n" in printed
    assert f"1 objects, 4 states in {out} (4 made now)\n" in printed
    (tmp_path / out / "train_filelist.txt").unlink()
    assert main(["data", "check", out]) == 1
    assert f"{out}/train_filelist.txt" in capsys.readouterr().out
    monkeypatch.setattr("partrm.datasets.contact_sheet.contact_sheet", lambda *_: np.zeros((4, 6, 3), np.uint8))
    assert main(["data", "show", out]) == 0
    assert capsys.readouterr().out == f"contact sheet: {out}/contact_sheet.png\n"
