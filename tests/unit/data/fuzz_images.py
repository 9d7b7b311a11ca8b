"""Fuzzing with damaged image files: each is read, or refused in one line that names the file.

python fuzz_images.py COUNT SEED FOLDER prints statistics as JSON. A crash or an input of more than 20 seconds
of computing end it with an error. One GB of memory can be allocated: a header may state 179 million pixels.
"""

from __future__ import annotations

import io
import json
import random
import resource
import signal
import struct
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from kmax.data.formats.coco_panoptic import read_image, read_image_words
from kmax.data.formats.image_file import load_image
from kmax.data.prepare.check_dataset import check_image
from kmax.errors import InputError

LIMIT_BYTES, LIMIT_SECONDS = 2**30, 20
Rng = random.Random
Make = Callable[[Rng], bytes]
INTERESTING = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
TYPES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 0xFFFF)
TAGS = (
    256,
    257,
    258,
    259,
    262,
    270,
    273,
    274,
    277,
    278,
    279,
    282,
    283,
    284,
    296,
    305,
    320,
    322,
    324,
    338,
    339,
)
TAGS += (529, 530, 700, 34665, 34675, 34853, 36864, 37500, 40965)


def damaged(rng: Rng, content: bytes, start: int = 0, end: int | None = None) -> bytes:
    """The bytes with some between `start` and `end` changed, cut out, doubled or moved."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        stop = min(len(out), len(out) if end is None else end)
        if stop <= start:
            break
        at, length = rng.randrange(start, stop), rng.choice((1, 1, 2, 4, 8, 40))
        match rng.randrange(7):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                out[at : at + length] = bytes([rng.choice(INTERESTING)]) * length
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = out[at : at + length]
            case 5:
                del out[at:]
            case 6:
                other = rng.randrange(start, stop)
                out[at : at + length] = out[other : other + length]
    return bytes(out)


def exif(rng: Rng) -> bytes:
    """A block of EXIF data with entries of any tag, type and place."""
    order, entries = rng.choice("<>"), []
    extra, count = b"", rng.choice((0, 1, 3, 8))
    for _ in range(count):
        tag, kind = rng.choice(TAGS), rng.choice(TYPES)
        number = rng.choice((0, 1, 1, 1, 2, 6, 0xFFFFFFFF))
        value = rng.choice((0, 1, 6, 8, 26, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.randrange(2**32)))
        if rng.random() < 0.4:
            value, extra = 10 + 12 * count + 4 + len(extra), extra + rng.randbytes(8)
        entries.append(struct.pack(f"{order}HHII", tag, kind, number, value))
    following = rng.choice((0, 8, 0xFFFFFFFF))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, count)
    block = head + b"".join(entries) + struct.pack(f"{order}I", following) + extra
    return damaged(rng, block) if rng.random() < 0.3 else block


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def base_files() -> dict[str, list[bytes]]:
    """Small images of each format, in several modes and compressions."""
    y, x = np.mgrid[:23, :31]
    image = Image.fromarray(np.stack([x * 8, y * 10, (x * y) % 256], -1).astype(np.uint8))
    grey, palette, bit = image.convert("L"), image.quantize(9), image.convert("1")
    alpha, deep = image.convert("RGBA"), Image.fromarray((x * y * 90).astype(np.uint16))
    tagged = Image.Exif()
    tagged[274], tagged[282], tagged[305] = 6, 72.0, "fuzz"
    return {
        "jpeg": [
            *(saved(image, "JPEG", exif=tagged, progressive=way) for way in (False, True)),
            saved(grey, "JPEG", comment="x"),
            saved(image.convert("CMYK"), "JPEG", dpi=(72, 72)),
        ],
        "png": [
            *(saved(one, "PNG", exif=tagged) for one in (image, grey, palette, bit, alpha, deep)),
            saved(palette, "PNG", transparency=b"\x00\x80\xff"),
        ],
        "webp": [
            *(
                saved(one, "WEBP", exif=tagged, lossless=way)
                for one in (image, alpha)
                for way in (False, True)
            ),
            saved(image, "WEBP", save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_180)]),
        ],
        "tiff": [
            *(saved(one, "TIFF", exif=tagged) for one in (image, grey, palette, bit, alpha, deep)),
            *(
                saved(image, "TIFF", compression=way)
                for way in ("tiff_lzw", "tiff_adobe_deflate", "packbits")
            ),
            *(saved(image, "TIFF", compression=way) for way in ("jpeg", "lzma", "zstd")),
            saved(bit, "TIFF", compression="group4"),
            saved(image, "TIFF", big_tiff=True),
        ],
        "bmp": [saved(one, "BMP") for one in (image, grey, palette, bit, alpha)],
    }


def makers() -> dict[str, Make]:
    """Damaged headers of each format, files damaged anywhere, and sound pixels with damaged metadata."""
    base = base_files()
    made: dict[str, Make] = {}
    for form, files in base.items():
        made[f"{form} header"] = lambda rng, files=files: _header(rng, rng.choice(files))
        made[f"{form} anywhere"] = lambda rng, files=files: damaged(rng, rng.choice(files))
    made |= {"tiff tags": lambda rng: _tags(rng, rng.choice(base["tiff"]))}
    made |= {f"{form} exif": _with_exif(form, base[form][0]) for form in ("jpeg", "png", "webp")}
    made |= {"tiff exif": _with_exif_directory()}
    made |= {"png chunks": lambda rng: _chunks(rng, rng.choice(base["png"]))}
    return made


def _header(rng: Rng, content: bytes) -> bytes:
    if not content.startswith(b"\x89PNG"):
        return damaged(rng, content, rng.choice((0, 4, 8)), 120)
    header = damaged(rng, content[16:29])[:13].ljust(13, b"\0")  # with a matching checksum
    return content[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:]


def _tags(rng: Rng, content: bytes) -> bytes:
    """Damaged entries of the directory of a TIFF."""
    order = "<" if content.startswith(b"II") else ">"
    start = struct.unpack_from(f"{order}I", content, 4)[0]
    return damaged(rng, content, start, start + 2 + 12 * struct.unpack_from(f"{order}H", content, start)[0])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(rng: Rng, content: bytes) -> bytes:
    """Chunks of any content, with matching checksums, before the pixels or after them."""
    kinds = (
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"iCCP",
        b"eXIf",
        b"gAMA",
        b"cHRM",
        b"pHYs",
        b"sRGB",
        b"tRNS",
        b"PLTE",
    )
    kind = rng.choice((*kinds, b"acTL", b"fcTL", b"fdAT"))
    bodies = (
        rng.randbytes(rng.randrange(60)),
        b"key\0\0" + zlib.compress(bytes(rng.choice((10, 2**21)))),
        b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6'>",
        b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 8\nzz"),
    )
    at = rng.choice((33, content.index(b"IDAT") - 4, len(content) - 12))
    return content[:at] + _chunk(kind, rng.choice(bodies)) * rng.choice((1, 1, 3)) + content[at:]


def _with_exif(form: str, content: bytes) -> Make:
    image = Image.open(io.BytesIO(content))
    plain = Image.fromarray(np.array(image))

    def make(rng: Rng) -> bytes:
        block = exif(rng)
        if form == "png":
            at = rng.choice((33, len(content) - 12))
            return saved(plain, "PNG")[:at] + _chunk(b"eXIf", block) + saved(plain, "PNG")[at:]
        return saved(plain, form.upper(), exif=b"Exif\0\0" + block)

    return make


def _with_exif_directory() -> Make:
    """TIFFs with a damaged directory of EXIF data."""
    tags = ImageFileDirectory_v2()
    tags[282], tags[34665] = 72.0, {36864: b"0230", 37500: bytes(20), 40962: 31, 33434: 0.5}
    content = saved(Image.new("RGB", (31, 23), "red"), "TIFF", tiffinfo=tags)
    place = struct.pack("<H", 34665)
    (start,) = struct.unpack_from("<I", content, content.index(place) + 8)

    def make(rng: Rng) -> bytes:
        end = start + 2 + 12 * 4 + 40
        if rng.random() < 0.5:
            return damaged(rng, content, start, end)
        entries = exif(rng)[8:]
        return content[:start] + entries + content[start + len(entries) :] + bytes(len(entries))

    return make


def read(content: bytes, path: Path) -> bool:
    """Whether the file can be read; every reader must read it, or refuse it in one line."""
    path.write_bytes(content)
    faults: list[tuple[object, str]] = []
    check_image(path, None, faults)
    lines, shapes = [line for _, line in faults], []
    for reader in (read_image, lambda path: load_image(path).rgb(upright=True), read_image_words):
        try:
            shapes.append(reader(path).shape[:2])
        except InputError as error:
            lines += error.faults
    for line in lines:
        if not line.startswith(str(path)) or len(line.splitlines()) != 1 or not line.isprintable():
            raise RuntimeError(f"not one line that names the file: {line!r}")
    if len(shapes) == 3:
        assert shapes[0] == shapes[2]
        assert sorted(shapes[0]) == sorted(shapes[1])
        if np.prod(shapes[0]) < 2**20:
            np.testing.assert_array_equal(read_image(path), read_image_words(path)[..., :3])
    return len(shapes) == 3


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(count: int, seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("error")  # none may be shown
    rng, counts, slowest = random.Random(seed), Counter(), 0.0
    kinds = makers()
    names = sorted(kinds)
    start, begun = peak(), time.monotonic()
    allowed = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))  # beyond it, allocation fails: one line, too
    for _ in range(count):
        name = rng.choice(names)
        content = kinds[name](rng)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
        at = time.process_time()
        try:
            counts[name, "read" if read(content, folder / "image") else "refused"] += 1
        except BaseException:
            print(f"{name}: see {folder / 'image'}", file=sys.stderr)
            raise
        slowest = max(slowest, time.process_time() - at)
    signal.setitimer(signal.ITIMER_PROF, 0)
    grown = peak() - start
    found = {f"{name} {status}": number for (name, status), number in sorted(counts.items())}
    seconds = round(time.monotonic() - begun)
    print(json.dumps({"inputs": count, "seconds": seconds, "slowest": slowest, "grown_bytes": grown} | found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
