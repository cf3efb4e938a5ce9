"""The published samples' digests, to be written anew after a deliberate change of the generators.

From the repository root: ``partrm eval --data procedural --pack set.safetensors``, then
``python tools/docs/write_digests.py set.safetensors``. Writes ``src/partrm/evaluation/procedural.sha256``.
"""

import argparse
from pathlib import Path

from partrm.evaluation.eval_set import load_eval_set, sample_digests

OUT = Path("src/partrm/evaluation/procedural.sha256")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, help="the packed procedural set")
    evalset = load_eval_set(parser.parse_args().set)
    names = [evalset.object_names[int(index)] for index in evalset.plan.object]
    lines = [f"{digest}  {name}\n" for digest, name in zip(sample_digests(evalset), names, strict=True)]
    OUT.write_text("".join(lines), encoding="utf-8")
    print(f"{OUT}: {len(lines)} samples")


if __name__ == "__main__":
    main()
