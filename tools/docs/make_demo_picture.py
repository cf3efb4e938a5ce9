"""Make ``docs/images/demo.png`` of what ``make demo`` wrote: ``python tools/docs/make_demo_picture.py``."""

from pathlib import Path

from PIL import Image

RESULTS = (Path("outputs/demo/microwave"), Path("outputs/demo/cabinet_photo"))
OUT = Path("docs/images/demo.png")
PANELS, WIDTH = 3, 360
CUT = (0.12, 0.16, 0.88, 0.92)
"""Left, top, right and bottom of what is kept of each panel, shares of its side."""


def main() -> None:
    """One row a result: the drag and the part found, before, after."""
    rows = []
    for folder in RESULTS:
        picture = Image.open(folder / "before_after.png").convert("RGB")
        side = picture.width // PANELS
        left, top, right, bottom = (round(share * side) for share in CUT)
        height = round(WIDTH * (bottom - top) / (right - left))
        row = Image.new("RGB", (PANELS * WIDTH, height))
        for panel in range(PANELS):
            part = picture.crop((panel * side + left, top, panel * side + right, bottom))
            row.paste(part.resize((WIDTH, height), Image.Resampling.LANCZOS), (panel * WIDTH, 0))
        rows.append(row)
    sheet = Image.new("RGB", (PANELS * WIDTH, sum(row.height for row in rows)))
    for number, row in enumerate(rows):
        sheet.paste(row, (0, sum(above.height for above in rows[:number])))
    sheet.save(OUT, optimize=True)


if __name__ == "__main__":
    main()
