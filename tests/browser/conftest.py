import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


def program(name: str) -> str:
    """A program of the browser; absent, the test is skipped, unless CI requires all."""
    found = shutil.which(name)
    if found:
        return found
    reason = f"{name} is not installed (Debian: chromium, chromium-driver)"
    if os.environ.get("KMAX_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator:
    """A headless Chromium with a separate profile, which can only reach the pages under test."""
    selenium = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = program("chromium")
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1400,1000",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(flag)
    driver = selenium.Chrome(options=options, service=Service(program("chromedriver")))
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where screenshots go: KMAX_SCREENSHOTS, to look at them, else a temporary folder."""
    folder = Path(os.environ.get("KMAX_SCREENSHOTS", tmp_path / "screenshots")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
