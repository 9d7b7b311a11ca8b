"""An empty figure in this project's style, in which texts are drawn as they are."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

POINTS_PER_INCH, SUBPIXELS = 72, 64
FONT = "DejaVu Sans"  # comes with matplotlib
STYLE = {
    "svg.hashsalt": "kmax",
    "svg.fonttype": "path",
    "text.parse_math": False,  # "$" is an ordinary character
    "text.usetex": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
# Characters that the font lacks are drawn as boxes.
MISSING_GLYPHS = (r"Glyph .* missing from", r"Matplotlib currently does not support .* natively")


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches in this project's style, without a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def widest(texts: Iterable[str], size: float) -> float:
    """Width of the widest of some texts in inches; `size` is that of the font, in points."""
    font = _font()
    font.set_size(size, POINTS_PER_INCH)

    def width(text: str) -> float:
        font.set_text(text)
        return float(font.get_width_height()[0]) / SUBPIXELS / POINTS_PER_INCH

    with _style():
        return max(map(width, texts))


@contextmanager
def _style() -> Iterator[None]:
    from matplotlib import rc_context

    with rc_context(STYLE), warnings.catch_warnings():
        for message in MISSING_GLYPHS:
            warnings.filterwarnings("ignore", message)
        yield


def has_glyphs(text: str) -> bool:
    """Whether the font of the figures has all characters of a text."""
    return all(_font().get_char_index(ord(character)) for character in text)


def _font() -> FT2Font:
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont(FONT))


def svg_text(figure: Figure) -> str:
    """The figure as SVG."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def patch(color: str, label: str) -> Any:
    """A coloured patch for a legend."""
    from matplotlib.patches import Patch

    return Patch(color=color, label=label)
