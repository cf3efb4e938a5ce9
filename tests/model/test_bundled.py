"""Bundled weights are found in the package and in `partrm-weights`."""

import importlib
import sys

from partrm.model.bundled import WEIGHTS_PACKAGE, bundled_folders


def test_the_clone_s_own_weights_come_before_those_of_the_weights_package(tmp_path, monkeypatch):
    package = tmp_path / WEIGHTS_PACKAGE
    for name in ("base", "other", "no-model"):
        (package / name).mkdir(parents=True)
    for name in ("base", "other"):
        (package / name / "config.json").write_text("{}")
    (package / "__init__.py").write_text("")
    own = bundled_folders()
    assert own["base"].parent.parent.name == "model"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, WEIGHTS_PACKAGE, raising=False)
    importlib.invalidate_caches()
    try:
        assert bundled_folders() == own | {"other": package / "other"}
    finally:
        sys.modules.pop(WEIGHTS_PACKAGE, None)
