"""Output in any encoding: characters that it lacks are printed as escapes; a closed output is no fault."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commandline import environment
from PIL import Image

PRINT = """
from kmax.cli.streams import accept_any_text
accept_any_text()
import sys, typer
typer.echo("\\xe9 \\u732b \\udce9")
typer.echo("\\xe9 \\u732b", err=True)
print("print \\u732b", flush=True)
"""


def run_code(code: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env=environment(**variables),
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PYTHONIOENCODING": "latin-1"}, b"\xe9 \\u732b \\udce9"),
        ({"PYTHONIOENCODING": "ascii:strict"}, b"\\xe9 \\u732b \\udce9"),
        ({"PYTHONIOENCODING": "utf-8:strict"}, "é 猫 \\udce9".encode()),
        ({"LC_ALL": "C"}, "é 猫 \\udce9".encode()),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, b"\\xe9 \\u732b \\udce9"),
    ],
)
def test_characters_that_the_encoding_lacks_are_escaped(variables: dict[str, str], expected: bytes) -> None:
    answer = run_code(PRINT, **variables)
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    assert first == expected
    assert second in (b"print \\u732b", "print 猫".encode())


def test_predict_images_prints_its_folder_in_latin_1(finished: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image, out = os.fsencode(tmp_path) + b"/\xe9.png", tmp_path / "猫"
    Image.fromarray(pixels).save(os.fsdecode(image))
    weights = finished / "results/shapes-mini/model.safetensors"
    command = [
        sys.executable,
        "-m",
        "kmax.cli.main",
        "predict-images",
        image,
        "--weights",
        weights,
        "--out",
        out,
    ]
    variables = environment(PYTHONIOENCODING="latin-1")
    answer = subprocess.run(command, capture_output=True, env=variables, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.decode("latin-1") == f"{tmp_path}/\\u732b\n"
    assert {os.fsencode(path.name) for path in out.iterdir()} == {
        b"\xe9.png",
        b"\xe9_overlay.png",
        b"panoptic.json",
    }


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_a_closed_output_is_no_fault(closed: str, tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m kmax.cli.main --help {closed}"
    answer = subprocess.run(["/bin/sh", "-c", command], env=environment(), timeout=60, capture_output=True)
    assert answer.returncode == 0
    assert not answer.stderr
