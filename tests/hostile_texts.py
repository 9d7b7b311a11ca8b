"""Texts that are valid names, and that a careless writer of some format turns into markup or a crash."""

from __future__ import annotations

from hypothesis import strategies as st

TEXTS = [
    *("", " ", "a\rb", "a\nb\n\n", "a\r\nb", "x\0y", "\x1b[31mred", "\u202egnp.exe", "\ud83d", "a\u2028b"),
    *("$", "c$d^{", r"$\frac{", r"\input{x}", "{}", "{0}", "%s", "~^_", "# h", "_hidden", "*b*", "[x](y)"),
    *("a|b", "a\\|b", "<script>alert(1)</script>", "</script>", "&amp;", '"q"\'', "`rm`", "<!--", "-->"),
    *("=cmd|'/c calc'!A0", "@x", "+1+cmd", "-2-cmd", "'", "'=x", "-2", "a,b;c", "=\t1"),
    *("猫猫", "😀", "مرحبا", "e\u0301" * 3, "a" * 10_000, "none", "others", "[/bold]"),
]
PIECES = "".join(dict.fromkeys("".join(text for text in TEXTS if len(text) < 100)))


def texts() -> st.SearchStrategy[str]:
    """Listed ones, mixtures of their characters, and any Unicode, with lone surrogates."""
    return st.sampled_from(TEXTS) | st.text(PIECES, max_size=12) | st.text(max_size=20)
