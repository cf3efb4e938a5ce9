"""What `partrm doctor` finds: the truth of this environment, and each thing that can be wrong with one."""

import importlib.metadata
import json
import os

import pytest

from partrm.cli import main
from partrm.commands import doctor
from partrm.commands.doctor import Package, SelfTest, examine, installed_packages, timed
from partrm.errors import PartRMError


@pytest.fixture
def no_self_test(monkeypatch):
    monkeypatch.setattr(doctor, "_self_tests", lambda: ())


def test_versions_are_those_installed():
    needed, extras = installed_packages()
    assert {package.name for package in needed} >= {"torch", "numpy", "viser"}
    assert all(package.version == importlib.metadata.version(package.name) and package.fits for package in needed)
    by_name = {extra.name: extra for extra in extras}
    assert {"data", "cuda", "train", "dev"} <= set(by_name)
    assert "pytest" in {package.name for package in by_name["dev"].packages}
    assert not {package.name for package in needed} & {package.name for package in by_name["dev"].packages}


def requirements(monkeypatch, *lines):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: list(lines))


def test_a_version_out_of_bounds_is_told(monkeypatch, capsys, no_self_test):
    requirements(monkeypatch, "numpy<1.0", "no-such-package-of-ours>=2", "rich", 'numpy<1.0; extra == "train"')
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out.splitlines()
    version = importlib.metadata.version("numpy")
    assert f"wrong  {'numpy':24} {version}, <1.0 is wanted" in shown
    assert f"wrong  {'no-such-package-of-ours':24} missing, >=2 is wanted" in shown
    assert any(line.startswith("ok     rich") for line in shown)
    assert f"       {'extra train':24} lacks numpy <1.0" in shown


def test_a_missing_extra_is_no_failure(monkeypatch, no_self_test):
    requirements(monkeypatch, "numpy", 'no-such-package-of-ours; extra == "ray"')
    report = examine(self_test=True)
    assert report.ok
    assert {extra.name: extra.complete for extra in report.extras}["ray"] is False


def test_an_extra_that_builds_on_another_has_its_packages(monkeypatch):
    requirements(monkeypatch, 'numpy; extra == "export"', 'partrm[export]; extra == "ray"', 'rich; extra == "ray"')
    by_name = {extra.name: [package.name for package in extra.packages] for extra in installed_packages()[1]}
    assert by_name["ray"] == ["numpy", "rich"]


def test_requirements_of_other_platforms_are_left_out(monkeypatch):
    requirements(monkeypatch, 'no-such-package-of-ours; platform_machine == "pdp11"', "numpy")
    assert [package.name for package in installed_packages()[0]] == ["numpy"]


def test_json_holds_the_report_and_nothing_else(capsys):
    assert main(["doctor", "--json", "--no-self-test"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["ok"] is True
    assert content["tests"] == []
    assert content["devices"][0]["name"] == "cpu"
    assert "base" in content["models"]
    assert {extra["name"]: extra["complete"] for extra in content["extras"]}.keys() >= {"cuda", "train"}
    assert all(cache["megabytes"] >= 0 for cache in content["caches"])


def test_the_self_test_passes_here(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok     golden images") for line in lines)
    (prediction,) = [line for line in lines if line.startswith("ok     one prediction")]
    assert "revolute" in prediction


@pytest.mark.parametrize(
    ("check", "told"),
    [(lambda: (False, "the image is off"), "the image is off"), (lambda: 1 / 0, "ZeroDivisionError: division by zero")],
)
def test_a_failing_check_is_told_and_fails(monkeypatch, capsys, check, told):
    monkeypatch.setattr(doctor, "_self_tests", lambda: (timed("golden images", check),))
    assert main(["doctor"]) == 1
    assert f"wrong  {'golden images':24} {told} (" in capsys.readouterr().out


def test_wrong_kernels_are_named(monkeypatch):
    from partrm.paper import verify

    bad = verify.Check("cpu", "image", 1.0, 1.0, "1e-5", ok=False)
    monkeypatch.setattr(verify, "verify_file", lambda path: [bad])
    ok, told = doctor._draw_goldens()
    assert not ok
    assert "image on cpu" in told


def test_broken_weights_fail_the_prediction(monkeypatch):
    from partrm.api import PartRM

    def broken(*_args):
        raise PartRMError("model.safetensors: truncated")

    monkeypatch.setattr(PartRM, "from_pretrained", broken)
    found = timed("one prediction", doctor._open_a_door)
    assert found == SelfTest("one prediction", False, "PartRMError: model.safetensors: truncated", found.seconds)


def test_a_report_is_right_only_when_all_of_it_is():
    from dataclasses import replace

    report = replace(examine(self_test=False), packages=(Package("numpy", "", "2", True),))
    assert report.ok
    assert not replace(report, packages=(Package("numpy", ">3", "2", False),)).ok
    assert not replace(report, tests=(SelfTest("x", False, "", 0.0),)).ok


@pytest.mark.parametrize("name", ["loop", "link", "pipe", "none", "a" * 300])
def test_a_cache_that_is_none_has_no_size(name, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert doctor._megabytes(tmp_path / name) == 0
