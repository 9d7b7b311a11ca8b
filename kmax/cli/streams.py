"""Standard output and error that accept any text, whatever their encoding."""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings

ESCAPES = "backslashreplace"


class _AsciiStream(io.TextIOWrapper):
    """A stream of ASCII with escapes for all other characters.

    It does not call itself ASCII: click replaces such streams by its own, which print question marks.
    """

    encoding = "latin-1"


def accept_any_text() -> None:
    """Print characters that the encoding of the output lacks as escapes, and none of Pillow's warnings.

    An output that the caller closed becomes the null device: a file that is opened later must not take its
    number, and with it what libraries print.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            if codecs.lookup(stream.encoding).name == "ascii":
                buffering = stream.line_buffering
                ascii_only = _AsciiStream(stream.detach(), "ascii", ESCAPES, line_buffering=buffering)
                setattr(sys, name, ascii_only)
            else:
                stream.reconfigure(errors=ESCAPES)
    warnings.filterwarnings("ignore", module=r"PIL\.")
