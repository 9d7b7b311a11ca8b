"""Where the recorded numbers and sample data are.

Tests that need them skip where they are absent, unless CI requires all.
"""

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A shell's background jobs ignore Ctrl-C, and so would every process that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def shared_folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if folder.is_dir():
        return folder
    reason = f"{folder} is absent: set {variable} to the folder of the {name}"
    if os.environ.get("KMAX_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers recorded from the originals and the official evaluators."""
    return shared_folder("KMAX_GOLDEN_DIR", "golden")


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real images and annotations in true dataset layouts."""
    return shared_folder("KMAX_SAMPLES_DIR", "samples")


@pytest.fixture(autouse=True)
def no_waiting_for_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads try again at once."""
    monkeypatch.setattr("kmax.fetch.transfer.pause", lambda seconds: None)


@pytest.fixture(scope="session")
def facts() -> Path:
    """What the originals' configs and papers state."""
    return shared_folder("KMAX_FACTS_DIR", "facts")


@pytest.fixture(scope="session")
def panopticapi_python() -> str:
    """A Python with panopticapi, of `make setup-panopticapi`."""
    found = os.environ.get("KMAX_PANOPTICAPI_PYTHON", "")
    if Path(found).is_file():
        return found
    reason = "no panopticapi: make setup-panopticapi, or KMAX_PANOPTICAPI_PYTHON=a Python that has it"
    if os.environ.get("KMAX_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
