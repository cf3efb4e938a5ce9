"""Fine-tune on your URDFs: a pool of your objects, some training from the bundled weights, and a prediction of the new.

Give your URDF or MuJoCo files; without any, three generated ones are written first. It runs ``partrm data pool`` and
``partrm train --init base`` as a shell would (extras ``data`` and ``train``). Two steps show the way and no gain, in a
minute or more of a CPU: take a GPU, a thousand steps of 64 samples, procedural objects beside yours (docs/train.md).

    python examples/07_fine_tune.py mine/drawer.urdf mine/door.urdf --out tuned
"""

from pathlib import Path

import tyro

import partrm
from partrm import PartRM
from partrm.cli import main as command
from partrm.objects.urdf import save_urdf
from partrm.procedural import generate

MICROWAVE = Path(partrm.__file__).parent / "example_images" / "microwave.png"


def examples(folder: Path) -> list[Path]:
    """Three URDFs, as if they were yours."""
    paths = [folder / category / f"{category}.urdf" for category in ("drawers", "microwave", "door")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_urdf(generate(path.stem, 0), path)
    return paths


def main(
    urdfs: tyro.conf.Positional[tuple[Path, ...]] = (),
    *,
    out: Path,
    steps: int = 2,
    batch: int = 2,
    lr: float = 1e-5,
    device: str = "auto",
) -> None:
    pool, run = str(out / "pool.npz"), str(out / "run")
    mine = [str(path) for path in urdfs or examples(out / "urdfs")]
    phases = ["--coarse.steps", "0", "--fine.steps", str(steps), "--fine.batch", str(batch), "--appearance.steps", "0"]
    phases += ["--fine.lr", str(lr), "--fine.lr-end", str(lr / 10)]
    training = ["--init", "base", "--pool", pool, *phases, "--device", device, "--log-every", "1", "--out", run]
    for words in (["data", "pool", *mine, "--out", pool, "--workers", "1"], ["train", *training]):
        print("partrm", *words)
        if command(words):
            raise SystemExit(1)

    before, after = (PartRM.from_pretrained(weights, device) for weights in ("base", Path(run) / "weights"))
    for name, model in (("base", before), ("tuned", after)):
        found = model.predict(MICROWAVE, [(164, 170, 112, 203)])
        print(f"{name}: {found.joint.type.name.lower()}, {found.joint.amount:.3f}, confidence {found.confidence:.3f}")


if __name__ == "__main__":
    tyro.cli(main)
