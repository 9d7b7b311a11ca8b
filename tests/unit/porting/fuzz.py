"""Fuzzing with corrupt checkpoints: each is read completely, or rejected in one line that names the file.

python fuzz.py COUNT SEED FOLDER prints statistics as JSON. A crash, an input of more than 20 seconds of
computing, or memory beyond 64 MB above the start end it with an error.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import resource
import signal
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import bundle_writer
import numpy as np
import torch
from bundle_writer import bundle, framed, shard_path, table

from kmax.errors import InputError
from kmax.porting.formats import open_checkpoint

LIMIT_BYTES, LIMIT_SECONDS = 64 * 2**20, 20
Input = tuple[str, dict[str, bytes]]
Rng = random.Random
TENSORS = {
    f"encoder/layer_{i}/kernel/.ATTRIBUTES/VARIABLE_VALUE": np.arange(i + 2.0, dtype=np.float32)
    for i in range(12)
}
TENSORS |= {"save_counter/.ATTRIBUTES/VARIABLE_VALUE": np.array(3, dtype=np.int64)}
STATE = {f"layer.{i}.weight": torch.arange(float(i + 2)) for i in range(6)} | {"half": torch.ones(3).half()}
INTERESTING = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


def damaged(rng: Rng, content: bytes) -> bytes:
    """The bytes with some changed, cut out, doubled, or replaced by numbers that are often limits."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not out:
            break
        at = rng.randrange(len(out))
        length = rng.choice((1, 1, 2, 4, 8, 40))
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
                other = rng.randrange(len(out))
                out[at : at + length] = out[other : other + length]
    return bytes(out)


# ------------------------------------------------------------------------------------------------- TensorFlow


def bundles(folder: Path) -> dict[str, Callable[[Rng], Input]]:
    """Corrupt TensorFlow checkpoints, most of them with matching checksums."""
    prefix = bundle(folder / "base", TENSORS, shards=2)
    shards = {f"x.data-{n:05d}-of-00002": shard_path(prefix, n, 2).read_bytes() for n in range(2)}
    forms = ({}, {"compressed": True}, {"block_size": 1}, {"block_size": 300, "compressed": True})
    indexes = [
        bundle(folder / "base", TENSORS, 2, **options).with_name("base.index").read_bytes()
        for options in forms
    ]
    pairs: list[tuple[bytes, bytes]] = []
    bundle(folder / "base", TENSORS, 2, change=lambda found: pairs.extend(found) or found)

    def index(rng: Rng) -> Input:
        return "tf", {"x.index": damaged(rng, rng.choice(indexes)), **shards}

    def shard(rng: Rng) -> Input:
        name = rng.choice(list(shards))
        return "tf", {"x.index": indexes[0], **shards, name: damaged(rng, shards[name])}

    def entries(rng: Rng) -> Input:
        found = list(pairs)
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(found))
            key, value = found[at]
            found[at] = (damaged(rng, key), value) if rng.random() < 0.2 else (key, damaged(rng, value))
        return "tf", {"x.index": table(found, rng.random() < 0.3, rng.choice((1, 200, 1 << 18))), **shards}

    def blocks(rng: Rng) -> Input:
        """Corrupt inside the blocks, whose checksums are computed afterwards."""
        kept = bundle_writer.framed

        def change(content: bytes, kind: int = 0) -> bytes:
            if rng.random() < 0.6:
                content = damaged(rng, content)
            return framed(content, rng.choice((0, 1, 7)) if rng.random() < 0.05 else kind)

        bundle_writer.framed = change
        try:
            return "tf", {
                "x.index": table(pairs, rng.random() < 0.5, rng.choice((1, 200, 1 << 18))),
                **shards,
            }
        finally:
            bundle_writer.framed = kept

    swollen = list(bombs(pairs))

    def bomb(rng: Rng) -> Input:
        return "tf", {"x.index": rng.choice(swollen), **shards}

    return {"index": index, "shard": shard, "entries": entries, "blocks": blocks, "bombs": bomb}


def bombs(pairs: list[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Indexes with small blocks that unpack to large ones, and long keys with few stored bytes."""
    for size in (1 << 20, 1 << 22, 1 << 31, 1 << 62):
        for repeats in (10, 20000):
            content = bundle_writer.varint(size) + b"\x00a" + b"\xfe\x01\x00" * repeats
            places = bundle_writer.varint(0) + bundle_writer.varint(len(content))
            footer = places * 2 + bytes(40 - 2 * len(places)) + bundle_writer.MAGIC
            yield framed(content, 1) + footer
    for length in (100, 60000):
        endings = (bytes([97 + i % 26]) * (i // 26 + 1) for i in range(400))
        long = sorted((b"k" * length + ending, pairs[1][1]) for ending in endings)
        yield table([pairs[0], *long], block_size=1 << 30)


# --------------------------------------------------------------------------------------------------- pickles


def pickles() -> dict[str, Callable[[Rng], Input]]:
    """Corrupt .pth files (zip and legacy), and .pkl files."""
    archives, olds = [], []
    for content in (STATE, {"model": STATE, "epoch": 3}):
        for new, kept in ((True, archives), (False, olds)):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=new)
            kept.append(stream.getvalue())
    arrays = {name: tensor.numpy() for name, tensor in STATE.items()}
    plain = [pickle.dumps({"model": arrays, "__author__": "x"}, protocol=number) for number in range(6)]

    def archive(rng: Rng) -> Input:
        return "torch", {"x.pth": damaged(rng, rng.choice(archives))}

    def inside(rng: Rng) -> Input:
        """An archive with a corrupt pickle and a matching checksum."""
        stream = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(rng.choice(archives))) as source,
            zipfile.ZipFile(stream, "w") as target,
        ):
            for name in source.namelist():
                content = source.read(name)
                target.writestr(name, damaged(rng, content) if name.endswith("data.pkl") else content)
        return "torch", {"x.pth": stream.getvalue()}

    def old(rng: Rng) -> Input:
        return "torch", {"x.pth": damaged(rng, rng.choice(olds))}

    def arrays_alone(rng: Rng) -> Input:
        return "torch", {"x.pkl": damaged(rng, rng.choice(plain))}

    def opcodes(rng: Rng) -> Input:
        """Opcodes in any order, many of which create large objects."""
        makers = [
            b"]",
            b"}",
            b"\x8f",
            b")",
            b"(",
            b"\x94",
            b"2",
            b"0",
            b"a",
            b"e",
            b"s",
            b"u",
            b"t",
            b"R",
            b"b",
        ]
        makers += [
            b"Q",
            b"l",
            b"d",
            b"K\x05",
            b"\x8c\x01a",
            b"h\x01",
            b"j\xff\xff\xff\x7f",
            b"r\xff\xff\xff\xff",
        ]
        makers += [
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"B\xff\xff\xff\xff",
            b"\x8b\xff\xff\xff\x7f",
            b"\x93",
        ]
        makers += [
            b"cos\nsystem\n",
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"cnumpy\nndarray\n",
            b"N",
            b"\x81",
        ]
        body = b"".join(rng.choices(makers, k=rng.choice((3, 10, 50, 400))))
        if rng.random() < 0.002:
            body = rng.choice((b"]", b"}", b"]\x94", b"}\x94", b"\x8f", b"(", b"]2")) * 900_000
        return "torch", {"x.pkl": b"\x80\x04" + body + b"."}

    return {"archive": archive, "inside": inside, "old": old, "arrays": arrays_alone, "opcodes": opcodes}


def inputs(rng: Rng, folder: Path) -> Iterator[tuple[str, Input]]:
    kinds = bundles(folder) | pickles()
    names = [name for name in kinds for _ in range(1 if name == "bombs" else 3)]
    while True:
        name = rng.choice(names)
        yield name, kinds[name](rng)


def read(kind: str, files: dict[str, bytes], folder: Path) -> bool:
    """Whether the checkpoint was read; False: it was refused with a message."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    path = folder / ("x" if kind == "tf" else next(iter(files)))
    try:
        checkpoint = open_checkpoint(path, kind)
        for name in checkpoint:
            checkpoint.describe(name)
            np.array(checkpoint[name])
        checkpoint.variables()
        return True
    except InputError as error:
        if len(error.faults) != 1 or str(folder) not in str(error) or "\n" in str(error):
            raise RuntimeError(f"not one line that names the file: {error}") from error
        return False


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(count: int, seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng, counts, slowest = random.Random(seed), Counter(), 0.0
    made = inputs(rng, folder)
    for _ in range(200):
        name, (kind, files) = next(made)
        read(kind, files, folder)
    start, begun = peak(), time.monotonic()
    for _ in range(count):
        name, (kind, files) = next(made)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
        at = time.process_time()
        try:
            counts[name, "read" if read(kind, files, folder) else "refused"] += 1
        except BaseException:
            kept = folder / "escaped.pickle"
            kept.write_bytes(pickle.dumps((kind, files)))
            print(f"{name}: see {kept}", file=sys.stderr)
            raise
        slowest = max(slowest, time.process_time() - at)
    signal.setitimer(signal.ITIMER_PROF, 0)
    grown = peak() - start
    found = {f"{name} {status}": number for (name, status), number in sorted(counts.items())}
    seconds = round(time.monotonic() - begun)
    print(json.dumps({"inputs": count, "seconds": seconds, "slowest": slowest, "grown_bytes": grown} | found))
    assert grown < LIMIT_BYTES, f"memory grew by {grown} bytes"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
