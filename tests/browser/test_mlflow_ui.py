"""The MLflow page on the project's store: two tracked runs, compared."""

import json
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from kmax import paths
from kmax.runs.families import load_run
from kmax.runs.identity import identify
from kmax.tracking.mlflow_store import server_command, server_environment, sync
from kmax.tracking.tracker import track

pytest.importorskip("mlflow")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120


@pytest.fixture
def two_runs(tmp_path, monkeypatch) -> dict[str, float]:
    """Two tracked runs and their PQ."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KMAX_TRACKING", "off")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    manifest = paths.prepared_manifest("shapes_smoke")
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"digest": "5" * 64}))
    values = {"shapes-first": 0.512, "shapes-second": 0.537}
    for name, pq in values.items():
        run = load_run("shapes-smoke").model_copy(update={"run": name})
        paths.metrics_folder(name).mkdir(parents=True)
        paths.metrics(name).write_text(json.dumps({"pq": {"all": {"pq": pq}}}))
        with track(run, "train", identity=identify(run)) as tracker:
            for step in range(20):
                tracker.metrics({"loss/total": 10 * pq / (step + 1)}, step=step)
        with track(run, "evaluate", identity=identify(run)):
            pass
    sync()
    return values


@pytest.fixture
def server(two_runs, tmp_path):
    """MLflow's server as `kmax track ui` starts it; gives its address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with open(tmp_path / "server.log", "w") as log:
        process = subprocess.Popen(
            server_command(port), env=server_environment(), stdout=log, stderr=subprocess.STDOUT
        )
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(address, process, tmp_path / "server.log")
            yield address
        finally:
            process.terminate()
            process.wait()


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Wait until the server answers; its log is the message if it ends instead."""
    import time

    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:  # noqa: S310 - http
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


def test_two_runs_can_be_compared(server, two_runs, browser, screenshots):
    from mlflow.tracking import MlflowClient
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("kmax").experiment_id
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    assert set(runs) == {name + stage for name in two_runs for stage in ("", "/train", "/evaluate")}
    ids = json.dumps([runs[name] for name in two_runs])
    browser.get(f"{server}/#/compare-runs?runs={ids}&experiments={json.dumps([experiment])}")

    def text(_: object = None) -> str:
        return browser.find_element(By.TAG_NAME, "body").text

    wanted = [*two_runs, "pq/all/pq", *(str(value) for value in two_runs.values())]
    WebDriverWait(browser, PATIENCE).until(
        lambda _: all(word in text() for word in wanted), message=f"{wanted}"
    )
    browser.set_window_size(1400, 2200)
    browser.save_screenshot(str(screenshots / "mlflow-comparison.png"))
