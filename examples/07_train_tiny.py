"""Train a tiny network: objects into a pool, seconds of training on a CPU, and a prediction of the new weights.

The same as ``partrm data pool`` and ``partrm train`` with small numbers (extras ``data`` and ``train``). A network that
has learned for seconds knows little; docs/train.md says what the shipped weights took. Any loader's objects may go into
the pool: ``load_urdf``, ``load_mjcf``, ``load_partnet``.

    python examples/07_train_tiny.py --out tiny
"""

from pathlib import Path

import tyro

import partrm
from partrm import PartRM
from partrm.procedural import generate
from partrm.synthesis.mesh_pool import Pool, save_pool
from partrm.training.config import Phase, TrainConfig
from partrm.training.run_log import Listener
from partrm.training.trainer import train

MICROWAVE = Path(partrm.__file__).parent / "example_images" / "microwave.png"
NONE = Phase("none", steps=0, batch=1, image_size_px=32, lr=1e-3, lr_end=1e-4)


def tell(step: int, phase: str, values: dict[str, float]) -> None:
    print(f"{phase}, step {step}: " + ", ".join(f"{name} {value:.3g}" for name, value in values.items()))


def main(out: Path, steps: int = 40) -> None:
    out.mkdir(parents=True, exist_ok=True)
    objects = [generate(category, seed) for category in ("drawers", "microwave", "door") for seed in range(2)]
    save_pool(Pool.from_objects(objects), out / "pool.npz")
    config = TrainConfig(
        pool=(out / "pool.npz",),
        out=out / "run",
        preset="tiny",
        device="cpu",
        log_every=max(1, steps // 4),
        coarse=Phase("coarse", steps, batch=4, image_size_px=32, lr=1e-3, lr_end=1e-4),
        fine=NONE,
        appearance=NONE,
    )
    train(config, Listener(row=tell))

    prediction = PartRM.from_pretrained(out / "run" / "weights", "cpu").predict(MICROWAVE, [(164, 170, 112, 203)])
    print(f"after {steps} steps: {prediction.joint.type.name.lower()}, confidence {prediction.confidence:.2f}")


if __name__ == "__main__":
    tyro.cli(main)
