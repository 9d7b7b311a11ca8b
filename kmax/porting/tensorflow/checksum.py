"""CRC-32C as the files store it."""

from __future__ import annotations

from typing import Any

import google_crc32c

MASK_DELTA = 0xA282EAD8


def masked_crc(content: Any) -> int:
    """CRC-32C of `content`, rotated right by 15 bits plus a constant (LevelDB's `crc32c::Mask`)."""
    return masked(google_crc32c.value(content))


def masked(crc: int) -> int:
    """A CRC-32C as it is stored."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def unmasked(crc: int) -> int:
    """The CRC-32C that `masked_crc` made `crc` of."""
    rotated = (crc - MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
