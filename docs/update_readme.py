"""Update README.md with the latest results: the table for the shapes dataset, and a picture of predictions.

kmax report && python docs/update_readme.py
"""

import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PREDICTIONS = ROOT / "results/shapes-tiny/predictions/pictures"
VIEWS = ("image", "ground_truth", "prediction", "clusters_6")
ROWS, SIDE, GAP = 3, 192, 6


def main() -> None:
    """Rewrite the table between its markers, and docs/pictures/shapes.png."""
    table = (ROOT / "reports/tables/shapes.md").read_text().split("\n\n")
    rows = next(part for part in table if part.startswith("|")).strip().splitlines()
    rows = "\n".join(row for row in rows if not row.endswith("| not run |"))
    readme = ROOT / "README.md"
    marked = re.compile(r"(<!-- table: begin[^>]*-->\n).*?(<!-- table: end -->)", re.DOTALL)
    readme.write_text(marked.sub(lambda match: f"{match[1]}\n{rows}\n\n{match[2]}", readme.read_text()))
    contact_sheet(sorted(PREDICTIONS.iterdir())[:ROWS]).save(ROOT / "docs/pictures/shapes.png", optimize=True)


def contact_sheet(folders: list[Path]) -> Image.Image:
    """One row per image: image, ground truth, prediction, and the clusters of the last k-means layer."""
    step = SIDE + GAP
    sheet = Image.new("RGB", (step * len(VIEWS) - GAP, step * len(folders) - GAP), "white")
    for row, folder in enumerate(folders):
        for column, view in enumerate(VIEWS):
            with Image.open(folder / f"{view}.png") as picture:
                resized = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(resized, (column * step, row * step))
    return sheet


if __name__ == "__main__":
    main()
