"""From a drag to the moved Gaussians, as `partrm predict` and the viewer ask for it, without reading or writing files.

    python benchmarks/predict.py --device cuda --rounds 20

Medians after a warm-up, the bundled microwave; the clock is read when the answer lies in host memory.
"""

import argparse
import platform
import resource
import statistics
import time
from importlib import resources

import torch

from partrm.inference.pipeline import predict
from partrm.inference.source import check_drags, load_source
from partrm.model.checkpoints import load_model

DRAG = (164.0, 170.0, 112.0, 203.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    model = load_model(args.model, args.device)
    picture = str(resources.files("partrm") / "example_images" / "microwave.png")
    source = load_source(picture, model.config.image_size_px, "canonical")
    drags = check_drags([DRAG], source)
    whole: list[float] = []
    steps: dict[str, list[float]] = {}
    for index in range(args.rounds + 2):
        started = time.perf_counter()
        prediction = predict(source, drags, model)
        if index >= 2:
            whole.append(time.perf_counter() - started)
            for name, seconds in prediction.timings_s.items():
                steps.setdefault(name, []).append(seconds)
    cuda = torch.device(args.device).type == "cuda"
    where = torch.cuda.get_device_name() if cuda else f"{platform.processor() or platform.machine()}"
    print(f"{where}, torch {torch.__version__}, {torch.get_num_threads()} threads, {args.rounds} rounds")
    for name, values in {"drag to Gaussians": whole, **steps}.items():
        print(f"{name:18s} median {1e3 * statistics.median(values):8.1f} ms   worst {1e3 * max(values):8.1f} ms")
    print(f"{len(prediction.after)} Gaussians, joint {prediction.joint.type.name.lower()}")
    peak = torch.cuda.max_memory_allocated() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
