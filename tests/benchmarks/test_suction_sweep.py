"""The sweep's table on the cabinet: a cup of no strength opens nothing."""

from dataclasses import replace

import suction_sweep
from support.small_evaluation import cabinet_set, untrained_checkpoint

from partrm.evaluation.eval_set import save_eval_set
from partrm.robotics.suction import SuctionSettings

QUICK = SuctionSettings(speed_m_per_s=0.4, turn_rad_per_s=4.0, timestep_s=0.005, timeout_s=2.0, refit_m=0.04)


def test_every_setting_gets_a_line(tmp_path, monkeypatch):
    weak = replace(QUICK, strength_n=0.01)
    monkeypatch.setattr(suction_sweep, "VARIANTS", {"usual": QUICK, "weak": weak})
    save_eval_set(cabinet_set([]), tmp_path / "set.safetensors")
    model, out = untrained_checkpoint(tmp_path / "tiny"), tmp_path / "sweep.md"
    given = ["--set", str(tmp_path / "set.safetensors"), "--limit", "1", "--model", str(model), "--out", str(out)]
    suction_sweep.main(given)
    usual, none = [
        line.split(" | ") for line in out.read_text(encoding="utf-8").splitlines() if line[:3] in ("| u", "| w")
    ]
    assert usual[1] == "1.000"
    assert [cell.rstrip(" |") for cell in none[1:]] == ["0.000"] * (len(none) - 1)
