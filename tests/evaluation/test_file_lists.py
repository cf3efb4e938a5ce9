"""File lists of PartDrag-4D folders that somebody has written by a script."""

from collections import Counter

import pytest
from support.boxes import cabinet

pytest.importorskip("warp")

from partrm.datasets.build import build
from partrm.datasets.object_writer import BuildConfig
from partrm.evaluation.folder_sets import open_folder
from partrm.evaluation.partdrag4d_pairs import StatePair
from partrm.objects.urdf import save_urdf

CONFIG = BuildConfig(size_px=32, views=2, states=2, distractors=0, points=500)


def test_an_entry_that_a_list_repeats_is_looked_at_once(tmp_path, monkeypatch):
    save_urdf(cabinet(), tmp_path / "boxes.urdf")
    root = tmp_path / "data"
    build((str(tmp_path / "boxes.urdf"),), root, CONFIG)
    list_of_all = next(path for path in root.glob("*_filelist.txt") if path.read_text())
    (tmp_path / "list.txt").write_text(list_of_all.read_text() * 50)
    looked, draggable = Counter(), StatePair.draggable

    def counted(pair):
        looked[pair.source, pair.target] += 1
        return draggable(pair)

    monkeypatch.setattr(StatePair, "draggable", counted)
    once, often = (open_folder(root, file_list=path) for path in (list_of_all, tmp_path / "list.txt"))
    assert len(often) == 50 * len(once)
    assert often.checksum == once.checksum
    assert set(looked.values()) == {2}
