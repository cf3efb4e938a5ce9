"""Make ``docs/images/photos.jpg``: rendered objects in a made-up kitchen, cut out by a box and opened.

From the repository root: ``python tools/docs/make_photo_pictures.py``.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from partrm.api import PartRM

EXAMPLES = Path("src/partrm/example_images")
OUT = Path("docs/images/photos.jpg")
SIZE = 640
NAMES = ("refrigerator.png", "oven.png", "drawers.png")


def kitchen(seed: int) -> Image.Image:
    """A tiled wall above a wooden floor."""
    rng = np.random.default_rng(seed)
    picture = np.empty((SIZE, SIZE, 3))
    tile, floor = 80, int(0.78 * SIZE)
    shades = rng.uniform(-14, 14, (SIZE // tile + 1, SIZE // tile + 1, 1)) + rng.uniform(120, 190, 3)
    picture[:] = np.repeat(np.repeat(shades, tile, 0), tile, 1)[:SIZE, :SIZE]
    picture[::tile], picture[:, ::tile] = 95, 95
    planks = np.repeat(rng.uniform(-25, 25, SIZE // 40), 40)[:, None] + rng.normal(0, 6, (SIZE, 1))
    picture[floor:] = np.array([126, 88, 60]) + planks[None, :, :]
    light = np.linspace(1.1, 0.75, SIZE)[None, :, None]
    noisy = picture * light + rng.normal(0, 3, picture.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))


def main() -> None:
    drags = {e["file"]: e["drags_px"][0] for e in json.loads((EXAMPLES / "examples.json").read_text())["examples"]}
    model = PartRM.from_pretrained("base", "cpu")
    rows = []
    for seed, name in enumerate(NAMES):
        with Image.open(EXAMPLES / name) as image:
            scale = 1.7
            thing = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        left, top = (SIZE - thing.width) // 2, (SIZE - thing.height) // 2
        photo = kitchen(seed)
        photo.paste(thing, (left, top), thing)
        box = thing.getchannel("A").point(lambda v: 255 * (v > 127)).getbbox()
        given = (box[0] + left - 5, box[1] + top - 5, box[2] + left + 5, box[3] + top + 5)
        x0, y0, x1, y1 = (scale * v for v in drags[name])
        drag = (x0 + left, y0 + top, x1 + left, y1 + top)
        prediction = model.predict(photo, [drag], box=given)
        with tempfile.TemporaryDirectory() as folder:
            prediction.save(folder)
            panels = Image.open(Path(folder) / "before_after.png").convert("RGB")
        drawn = photo.copy()
        ImageDraw.Draw(drawn).rectangle(given, outline=(255, 220, 0), width=4)
        ImageDraw.Draw(drawn).line(drag, fill=(20, 90, 230), width=6)
        row = Image.new("RGB", (4 * 320, 320), "white")
        row.paste(drawn.resize((320, 320)), (0, 0))
        row.paste(panels.resize((3 * 320, 320)), (320, 0))
        rows.append(row)
    sheet = Image.new("RGB", (4 * 320, 320 * len(rows)), "white")
    for index, row in enumerate(rows):
        sheet.paste(row, (0, 320 * index))
    sheet.save(OUT, quality=88)


if __name__ == "__main__":
    main()
