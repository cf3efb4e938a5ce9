"""``partrm data check|show``: arguments are looked at before the work."""

import pytest

from partrm.cli import main


@pytest.mark.parametrize(
    ("out", "message"),
    [("nodir/sheet.png", "no such folder"), ("sheet.xyz", "ends in .png"), ("sheet", "ends in .png")],
)
def test_show_looks_at_its_out_before_it_draws(tmp_path, monkeypatch, capsys, out, message):
    monkeypatch.setattr("partrm.data.contact_sheet.contact_sheet", lambda *_: pytest.fail("it was drawn"))
    assert main(["data", "show", str(tmp_path), "--out", str(tmp_path / out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / out) in line
    assert message in line


@pytest.mark.parametrize("name", ["sheet.PNG", "sheet.jpg", "sheet.webp", "sheet.tif", "sheet.bmp"])
def test_show_writes_every_kind_of_picture_that_it_takes(tmp_path, monkeypatch, name):
    import numpy as np
    from PIL import Image

    monkeypatch.setattr("partrm.data.contact_sheet.contact_sheet", lambda *_: np.full((4, 6, 3), 9, np.uint8))
    assert main(["data", "show", str(tmp_path), "--out", str(tmp_path / name)]) == 0
    with Image.open(tmp_path / name) as sheet:
        assert sheet.size == (6, 4)


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_folder_that_is_not_there_is_named_at_once(tmp_path, capsys, command):
    assert main(["data", command, str(tmp_path / "nosuch")]) == 1
    printed = capsys.readouterr()
    assert printed.err == f"partrm data: {tmp_path / 'nosuch'}: no such folder\n"
    assert printed.out == "", "no progress bar"
