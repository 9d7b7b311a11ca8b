"""A secret in each place that takes a URL is in nothing that the commands print or write."""

import ast
import hashlib
import importlib
import io
import json
import os
import pkgutil
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import psutil
import pytest
import typer
import yaml
from commandline import ROOT, Command, change, run_kmax, tree
from faulty_server import Server, serving

import kmax
from kmax import create_model
from kmax.cli.main import app
from kmax.config import Parameters
from kmax.data.dataset_file import load_dataset
from kmax.fetch import transfer
from kmax.fetch.partial import Partial
from kmax.model.io import save_model
from kmax.porting.formats.safetensors_format import read_metadata

DEAD = "127.0.0.1:9"
STORES = [  # which do not answer, or have no driver here, or are no URIs
    f"http://Zq1User:Zq1Store@{DEAD}",
    f"http://Zq1User:Zq1Store/x@{DEAD}",
    f"http://Zq1User:Zq1Store@x@{DEAD}/x?token=Zq13Token",
    "http://Zq1User:Zq1Store@[bad:host",
    "http://Zq1User:Zq1Store@host:port",
    f"postgresql://Zq1User:Zq1Store@{DEAD}/db",
    f"mysql+pymysql://Zq1User:Zq1Store@{DEAD}/db?password=Zq14Password",
    "other://Zq1User:Zq1Store@host",
    "sqlite:////proc/none/x.db?password=Zq15Password",
]
ENVIRONMENT = {
    "MLFLOW_TRACKING_USERNAME": "Zq2Username",
    "MLFLOW_TRACKING_PASSWORD": "Zq3Password",
}
PROXY = {"http_proxy": "http://Zq4Proxyuser:Zq5Proxy@{host}", "no_proxy": ""}
USER_FILES = {  # what the user wrote: all other files are the project's
    "params/weights.yaml",
    "params/datasets/own.yaml",
    ".git/config",
    ".dvc/config.local",
}
MARK = re.compile(rb"Zq\d+[A-Z][a-z]{2}\w*")  # longer than what weights contain by chance


def secrets_in(folder: Path) -> dict[str, list[bytes]]:
    """The secrets in the files below a folder, apart from those of the user."""
    found = {
        name: MARK.findall((folder / name).read_bytes() + name.encode())
        for name in tree(folder)
        if name not in USER_FILES
    }
    return {name: marks for name, marks in found.items() if marks}


def secrets_of(answer: subprocess.CompletedProcess[str]) -> list[bytes]:
    return MARK.findall((answer.stdout + answer.stderr).encode())


def one_attempt() -> None:
    """Do not repeat failed downloads."""
    transfer.ATTEMPTS = 1


def crash() -> None:
    """A bug that names its URL, while it handles another that does."""

    def fail(partial: Partial, *_: object) -> None:
        try:
            raise ValueError(partial.url)
        except ValueError as error:
            raise RuntimeError(f"{urllib.parse.quote(partial.url)} of {os.environ}") from error

    transfer._receive_all = fail


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def listening(process: psutil.Process) -> set[str]:
    """The addresses at which a process and its children listen."""
    connections = [
        connection
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections()
    ]
    return {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def tracking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, set[str]]]:
    """`kmax track ui`: its address, its folder and where it listens."""
    pytest.importorskip("mlflow")
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = Command(folder, "track", "ui", "--port", str(port))
    end = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
        except OSError:
            assert command.is_running(), command.result()
            assert time.monotonic() < end
            time.sleep(0.1)
    yield f"127.0.0.1:{port}", folder, listening(psutil.Process(command.process.pid))
    command.process.terminate()
    command.result()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def archive() -> bytes:
    """A dataset of one image per split; its content is not read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for split in ("train", "val"):
            image = {"id": 1, "file_name": "a.png", "width": 1, "height": 1}
            annotation = {"image_id": 1, "file_name": "a.png", "segments_info": []}
            content = {"images": [image], "annotations": [annotation], "categories": []}
            zipped.writestr(f"{split}.json", json.dumps(content))
            zipped.writestr(f"{split}/a.png", b"png")
            zipped.writestr("images/a.png", b"png") if split == "train" else None
    return packed.getvalue()


@pytest.fixture
def planted(project: Path, server: Server, tmp_path: Path) -> Path:
    """The project with a secret in each place that takes a URL."""
    categories = load_dataset_of(project)
    run = yaml.safe_load((project / "params/runs/mini.yaml").read_text())["runs"]["shapes-mini"]
    arguments = {name: value for name, value in run["model"].items() if name != "name"}
    model = create_model(run["model"]["name"], num_classes=len(categories), image_size=(65, 65), **arguments)
    save_model(model, tmp_path / "w.safetensors", categories)
    host = server.url.removeprefix("http://")

    weights = (tmp_path / "w.safetensors").read_bytes()
    server.add("w.safetensors?access_token=Zq6Token", weights)
    url = f"http://u:Zq7Weights@{host}/w.safetensors?access_token=Zq6Token"
    entry = {"description": f"from {url}", "url": url, "format": "safetensors"}
    (project / "params/weights.yaml").write_text(yaml.safe_dump({"weights": {"start": entry}}))

    server.add("all.zip?X-Amz-Signature=Zq8Signature", archive())
    url = f"http://u:Zq9Data@{host}/all.zip?X-Amz-Signature=Zq8Signature"
    splits = {
        split: {"images": "images", "panoptic_json": f"{split}.json", "panoptic_dir": split}
        for split in ("train", "val")
    }
    source = {"kind": "coco_panoptic", "root": "raw", "folder": "own", "splits": splits}
    source["files"] = [{"url": url, "path": "all.zip", "unpack": True}]
    dataset = {"dataset": "own", "description": url, "licence": "none", "citation": None, "categories": None}
    (project / "params/datasets/own.yaml").write_text(yaml.safe_dump(dataset | {"source": source}))

    def ported(content: dict) -> None:
        mini = content["runs"]["shapes-mini"]
        del mini["train"]
        mini["port"] = {"weights": "start", "source": "safetensors"}

    change(project / "params/runs/mini.yaml", ported)
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    remote = "https://Zq10User:Zq11Git@host/x.git"
    subprocess.run(["git", "remote", "add", "origin", remote], cwd=project, check=True)
    (project / ".dvc").mkdir()
    (project / ".dvc/config.local").write_text("['remote \"r\"']\n    url = http://u:Zq12Dvc@host/x\n")
    return project


def load_dataset_of(project: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        return load_dataset("shapes_mini").categories


COMMANDS = [
    ["weights", "fetch", "start"],
    ["data", "download", "own"],
    ["port", "shapes-mini"],
    ["track", "sync"],
    ["params", "show", "shapes-mini"],
    ["params", "check"],
    ["data", "check", "own"],
    ["doctor"],
]


def test_secrets_are_in_nothing_that_successful_commands_write(planted, server, tracking_server) -> None:
    address, folder, _ = tracking_server
    host = server.url.removeprefix("http://")
    proxy = {name: value.format(host=host) for name, value in PROXY.items()}
    store = {
        **ENVIRONMENT,
        "KMAX_TRACKING": "on",
        "MLFLOW_TRACKING_URI": f"http://Zq1User:Zq1Store%24@{address}",
    }
    for command in COMMANDS:
        answer = run_kmax(planted, *command, **(store if command[0] in ("port", "track") else proxy))
        if command[:2] != ["data", "check"]:  # which has no annotation to accept
            assert answer.returncode == 0, answer.stderr
        assert not secrets_of(answer), (command, answer)
    assert len(server.requests) == 2
    assert (planted / "raw/images/a.png").exists()
    assert (planted / "results/shapes-mini/port.json").exists()
    notes = [json.loads(path.read_text()) for path in planted.glob("runs/*/*/mlflow-*.json")]
    assert [note["uri"] for note in notes] == [f"http://{address}"]
    assert not secrets_in(planted)
    assert "mlflow.db" in tree(folder)
    assert not secrets_in(folder)


def test_secrets_are_in_nothing_that_failing_commands_write(planted, server) -> None:
    server.files.clear()  # all downloads fail
    dead = {name: value.format(host=DEAD) for name, value in PROXY.items()}
    broken = {"http_proxy": "http://Zq4Proxyuser:Zq5Proxy x/y@bad host:x", "no_proxy": ""}
    for variables in ({}, dead, broken):
        for command in (["weights", "fetch", "start"], ["data", "download", "own"]):
            answer = run_kmax(planted, *command, before=one_attempt, **variables)
            assert answer.returncode == 2, answer.stderr
            assert not secrets_of(answer), (command, answer)
    run = planted / "runs/shapes-mini/0000000000000000"
    run.mkdir(parents=True)
    event = {"id": "1", "time": 1, "stage": "port", "child": "port", "kind": "end", "status": "FINISHED"}
    (run / "events.jsonl").write_text(json.dumps(event) + "\n")
    for uri in STORES:
        answer = run_kmax(planted, "track", "sync", **ENVIRONMENT, MLFLOW_TRACKING_URI=uri)
        assert answer.returncode == 2, answer.stderr
        assert not secrets_of(answer), (uri, answer)
    assert not secrets_in(planted)


def test_secrets_are_in_no_traceback(planted) -> None:
    for command in (["weights", "fetch", "start"], ["data", "download", "own"]):
        answer = run_kmax(planted, *command, before=crash, **ENVIRONMENT, MLFLOW_TRACKING_URI=STORES[0])
        assert answer.returncode == 1
        assert "Traceback" in answer.stderr
        assert secrets_of(answer) in ([], [b"Zq2Username"] * answer.stderr.count("Zq2Username"))
    assert not secrets_in(planted)


def test_secrets_in_files_of_earlier_releases_are_removed(planted, tracking_server) -> None:
    address, _, _ = tracking_server
    uri = f"http://Zq1User:Zq1Store@{address}"
    assert run_kmax(planted, "weights", "fetch", "start").returncode == 0
    variables = {"KMAX_TRACKING": "on", "MLFLOW_TRACKING_URI": uri}
    assert run_kmax(planted, "port", "shapes-mini", **variables).returncode == 0
    [notes] = planted.glob("runs/*/*/mlflow-*.json")
    old = notes.with_name(f"mlflow-{hashlib.sha256(uri.encode()).hexdigest()[:12]}.json")
    content = json.loads(notes.read_text())
    notes.unlink()
    old.write_text(json.dumps(content | {"uri": uri}))
    answer = run_kmax(planted, "track", "sync", **variables)
    assert "0 events sent" in answer.stdout, "the notes were lost"
    assert not old.exists()
    assert json.loads(notes.read_text()) == content

    entry = yaml.safe_load((planted / "params/weights.yaml").read_text())["weights"]["start"]
    weights, recorded = planted / "data/weights/start.safetensors", planted / "params/weights.recorded.json"
    shown = read_metadata(weights)["source"]
    for path in (weights, recorded):  # of one length, so that the header of the tensors stays valid
        longer = entry["url"].encode()
        data = path.read_bytes().replace(shown.encode(), longer)
        if path == weights:
            size = int.from_bytes(data[:8], "little") + len(longer) - len(shown)
            data = size.to_bytes(8, "little") + data[8:]
        path.write_bytes(data)
    assert read_metadata(weights)["source"] == entry["url"]
    assert run_kmax(planted, "weights", "fetch", "start").returncode == 0
    assert read_metadata(weights)["source"] == shown
    assert not secrets_in(planted)


def test_the_mlflow_ui_listens_on_the_loopback_interface_alone(tracking_server) -> None:
    _, _, addresses = tracking_server
    assert addresses == {"127.0.0.1"}


def test_every_place_that_takes_a_url_is_one_of_these_tests() -> None:
    """A new field, option or variable of this kind must be planted here too."""
    kind = re.compile(r"ur[il]s?$|proxy|remote$|endpoint", re.IGNORECASE)
    for module in pkgutil.walk_packages(kmax.__path__, "kmax."):
        importlib.import_module(module.name)
    fields = {
        f"{model.__name__}.{name}" for model in models() for name in model.model_fields if kind.search(name)
    }
    assert fields == {"Weights.url", "RemoteFile.url"}
    options = {
        parameter.name for parameter in parameters(typer.main.get_command(app)) if kind.search(parameter.name)
    }
    assert options == set()
    texts = {
        node.value
        for path in (ROOT / "kmax").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isupper()
    }
    variables = {text for text in texts if re.fullmatch(r"[A-Z_]+", text) and kind.search(text)}
    assert variables == {"MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI"}


def models() -> set[type[Parameters]]:
    """All models of parameter files."""
    found: set[type[Parameters]] = set()
    new = {Parameters}
    while new:
        found |= new
        new = {inner for model in new for inner in model.__subclasses__()} - found
    return found


def parameters(command: click.Command) -> Iterator[click.Parameter]:
    """The options and arguments of a command and of those below it."""
    yield from command.params
    for inner in getattr(command, "commands", {}).values():
        yield from parameters(inner)
