"""The table of an ablation study from the results of its variants; see ablations.py."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TABLE = (("iou", "IoU", 3), ("motion_error_ratio", "motion error", 3), ("psnr", "PSNR", 2), ("psnr_moved", "moved", 2))
SHOWN = ("1 view, 1 drag", "4 views, 10 drags")
NUMBERS_OF_DRAGS = ("4 views, 1 drag", "4 views, 5 drags", "4 views, 10 drags")


def read_results(out: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Results of the variants that are done, in the order of ``names``."""
    paths = [out / name / "result.json" for name in names]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def cells(results: dict[str, Any], pool: str, setting: str, method: str) -> list[str]:
    figures = results.get("scores", {}).get(pool, {}).get(setting, {}).get(method, {})
    values = [(figures.get(metric), digits) for metric, _, digits in TABLE]
    return ["–" if value is None else f"{value:.{digits}f}" for value, digits in values]


def line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(parts) + " |"


def pool_table(results: list[dict[str, Any]], pool: str) -> list[str]:
    """Baselines and variants on one pool."""
    heads = [f"{title}, {setting}" for setting in SHOWN for _, title, _ in TABLE]
    heads += ["M parameters", "samples seen", "GPU s"]
    rows = [line(["variant", *heads]), line(["---"] * (len(heads) + 1))]
    scored = [r for r in results if r["scores"].get(pool)]
    # Any variant's copies will do, of one that takes both settings.
    first = next((r for r in scored if SHOWN[0] in r["scores"][pool]), scored[0] if scored else None)
    unmoved = next((r for r in scored if r["gives_part"]), None)
    baselines = [] if first is None else [("copy: the source's true views", first, "copy")]
    if unmoved is not None:
        baselines.append((f"no motion: the reconstruction of `{unmoved['name']}`, unmoved", unmoved, "no_motion"))
    for title, result, method in baselines:
        parts = [cell for setting in SHOWN for cell in cells(result, pool, setting, method)]
        rows.append(line([title, *parts, "", "", ""]))
    for result in results:
        parts = [cell for setting in SHOWN for cell in cells(result, pool, setting, "model")]
        note = "" if result["status"] == "done" else f" — {result['status']}"
        size, seconds = f"{result['parameters'] / 1e6:.1f}", f"{result['gpu_seconds']:.0f}"
        seen = f"{result['samples_seen']:,}".replace(",", " ")
        rows.append(line([f"`{result['name']}`: {result['title']}{note}", *parts, size, seen, seconds]))
    return [*rows, ""]


def drags_table(results: list[dict[str, Any]], pool: str) -> list[str]:
    """How many drags help: PSNR of four views."""
    rows = [line(["variant", *NUMBERS_OF_DRAGS]), line(["---"] * (len(NUMBERS_OF_DRAGS) + 1))]
    at = [metric for metric, _, _ in TABLE].index("psnr")
    for result in results:
        if result["scores"].get(pool):
            parts = [cells(result, pool, setting, "model")[at] for setting in NUMBERS_OF_DRAGS]
            rows.append(line([f"`{result['name']}`", *parts]))
    return [*rows, ""]


def write_report(out: Path, names: Sequence[str]) -> str:
    """Write ``ablations.md`` and ``ablations.json`` of all results there are; returns the Markdown."""
    results = read_results(out, names)
    pools = [Path(pool).stem for pool in results[0]["settings"]["val_pools"]] if results else []
    devices = ", ".join(dict.fromkeys(result["device"] for result in results))
    dates = sorted({result["date"] for result in results})
    lines = [f"Hardware: {devices or '–'}. Dates: {', '.join(dates) or '–'}.", ""]
    if results:
        lines += [f"Settings: `{json.dumps(results[0]['settings'])}`", ""]
    for pool in pools:
        lines += [f"Held-out pool `{pool}`:", "", *pool_table(results, pool)]
        lines += [f"PSNR over the number of drags, `{pool}`:", "", *drags_table(results, pool)]
    text = "\n".join(lines)
    (out / "ablations.md").write_text(text, encoding="utf-8")
    (out / "ablations.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return text
