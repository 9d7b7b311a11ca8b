"""One class of a dataset, and a default colour for classes without one."""

from __future__ import annotations

import colorsys
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from kmax.config.base import Parameters


def _without_surrogates(name: str) -> str:
    """JSON can hold half a surrogate pair, but UTF-8 and strict readers of JSON refuse it."""
    return re.sub("[\ud800-\udfff]", "\ufffd", name)


class Category(Parameters):
    """One class of a dataset; the list order is the order of the network's classes."""

    id: Annotated[int, Field(ge=0)]
    name: Annotated[str, AfterValidator(_without_surrogates)]
    isthing: bool
    color: Annotated[list[int], Field(min_length=3, max_length=3)]


def palette_color(index: int) -> tuple[int, int, int]:
    """The RGB colour of the class `index`: hues a golden ratio apart, so that neighbours differ."""
    hue = (0.02 + index * 0.618033988749895) % 1.0
    saturation, value = (0.85, 0.65, 0.45)[index % 3], (0.95, 0.75, 0.9, 0.6)[index % 4]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
