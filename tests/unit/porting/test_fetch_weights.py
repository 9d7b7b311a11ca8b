"""Fetched weights match params/weights.yaml, or nothing is kept."""

import base64
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import faulty_server
import pytest
import torch
from safetensors.torch import load_file, save_file

from kmax import files
from kmax.errors import InputError
from kmax.fetch import transfer
from kmax.porting import fetch_weights
from kmax.porting import weight_files as weights_module
from kmax.porting.formats.safetensors_format import read_metadata

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.5])}
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server on 127.0.0.1 that answers every GET by `answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def bytes_of(data: bytes, length: int | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def redirect(to: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(TENSORS, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def nothing_kept(project: Path) -> bool:
    """Apart from incomplete downloads, which the next call continues."""
    folder = project / "data/weights"
    left = [path.name for path in folder.rglob("*") if path.is_file()]
    return all(name.startswith(".tiny.part") for name in left)


def test_a_torch_file_becomes_safetensors_with_its_origin(project, register, checkpoint) -> None:
    register("tiny", checkpoint, "torch")
    path = fetch_weights("tiny")
    assert path == Path("data/weights/tiny.safetensors")
    loaded = load_file(path)
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)
    metadata = read_metadata(path)
    assert metadata["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert metadata["source"] == str(checkpoint)


def test_a_safetensors_file_keeps_its_metadata(project, register, tmp_path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors", metadata={"kmax": "{}"})
    register("tiny", tmp_path / "w.safetensors", "safetensors")
    assert read_metadata(fetch_weights("tiny"))["kmax"] == "{}"


def test_fetched_again_the_bytes_are_the_same(project, register, checkpoint) -> None:
    register("tiny", checkpoint, "torch")
    contents = set()
    for _ in range(8):
        path = fetch_weights("tiny")
        contents.add(path.read_bytes())
        path.unlink()
    assert len(contents) == 1


def test_existing_weights_are_fetched_again_only_for_a_changed_entry(project, register, checkpoint) -> None:
    register("tiny", checkpoint, "torch")
    path = fetch_weights("tiny")
    before = path.stat().st_mtime_ns
    assert fetch_weights("tiny").stat().st_mtime_ns == before
    torch.save({"c": torch.zeros(1)}, checkpoint)
    register("tiny", checkpoint, "torch")
    assert load_file(fetch_weights("tiny")).keys() == {"c"}


def test_weights_come_over_http(project, register, checkpoint, capfd) -> None:
    with serving(bytes_of(checkpoint.read_bytes())) as url:
        register("tiny", checkpoint, "torch", url=f"{url}/w.pth")
        assert load_file(fetch_weights("tiny")).keys() == TENSORS.keys()
    assert "w.pth" in capfd.readouterr().err


def test_a_cut_connection_is_continued_by_the_next_call(project, register, checkpoint) -> None:
    content = checkpoint.read_bytes()
    with faulty_server.serving() as server:
        url = server.add("w.pth", content, cuts=[200] * transfer.ATTEMPTS)
        register("tiny", checkpoint, "torch", url=url)
        with pytest.raises(InputError, match="run the command again to continue after 1200 bytes"):
            fetch_weights("tiny")
        assert nothing_kept(project)
        path = fetch_weights("tiny")
        assert server.sent == len(content)
    assert load_file(path).keys() == TENSORS.keys()
    assert [file.name for file in path.parent.iterdir()] == ["tiny.safetensors"]


def test_weights_that_changed_on_the_server_are_fetched_again(project, register, checkpoint) -> None:
    with faulty_server.serving() as server:
        url = server.add("w.pth", bytes(2000), cuts=[200] * transfer.ATTEMPTS)
        register("tiny", checkpoint, "torch", url=url)
        with pytest.raises(InputError, match="run the command again"):
            fetch_weights("tiny")
        server.add("w.pth", checkpoint.read_bytes())
        assert load_file(fetch_weights("tiny")).keys() == TENSORS.keys()


def test_weights_that_another_process_fetches_are_left_to_it(project, register, checkpoint) -> None:
    register("tiny", checkpoint, "torch", url="http://127.0.0.1:9/w.pth")
    lock = Path("data/weights/.downloads/tiny.lock")
    with (
        files.exclusive_lock(lock, "held"),
        pytest.raises(InputError, match="another process is downloading"),
    ):
        fetch_weights("tiny")


def test_a_wrong_sha256_keeps_nothing(project, register, checkpoint) -> None:
    register("tiny", checkpoint, "torch", sha256="0" * 64)
    with pytest.raises(InputError, match=r"SHA-256 is [0-9a-f]{64}, but params/weights.yaml expects 0000"):
        fetch_weights("tiny")
    assert nothing_kept(project)


def test_servers_that_fail_end_in_one_line_and_keep_nothing(project, register, checkpoint) -> None:
    data = checkpoint.read_bytes()
    answers: dict[str, Answer] = {
        "404": lambda handler: handler.send_error(404),
        "503": lambda handler: handler.send_error(503),
        "ended after|cannot be downloaded": bytes_of(data[:100], length=len(data)),
        "SHA-256": bytes_of(data[:-5]),
        "not allowed|only http and https": redirect("file:///etc/passwd"),
        "only http and https are|cannot be downloaded": redirect("ftp://127.0.0.1/x"),
    }
    for expected, answer in answers.items():
        with serving(answer) as url:
            register("tiny", checkpoint, "torch", url=f"{url}/w.pth")
            with pytest.raises(InputError, match=expected):
                fetch_weights("tiny")
        assert nothing_kept(project)
    register("tiny", checkpoint, "torch", url=f"{url}/w.pth")  # the server is gone
    with pytest.raises(InputError, match=r"cannot be downloaded: .*refused"):
        fetch_weights("tiny")


def test_more_than_the_bound_is_refused(project, register, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(weights_module, "MAX_BYTES", 100)
    with serving(bytes_of(checkpoint.read_bytes())) as url:
        register("tiny", checkpoint, "torch", url=f"{url}/w.pth")
        with pytest.raises(InputError, match="more than the 100 allowed"):
            fetch_weights("tiny")
    assert nothing_kept(project)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/w.pth", "w.pth", "data:,x"])
def test_other_schemes_are_refused(project, register, checkpoint, url: str) -> None:
    register("tiny", checkpoint, "torch", url=url)
    with pytest.raises(InputError, match="only http and https are supported"):
        fetch_weights("tiny")


def test_names_and_files_that_do_not_exist(project, register, checkpoint) -> None:
    register("resnet50_imagenet", checkpoint, "torch")
    with pytest.raises(InputError, match="did you mean 'resnet50_imagenet'"):
        fetch_weights("resnet50_imagnet")
    checkpoint.unlink()
    with pytest.raises(InputError, match=r"w\.pth: checkpoint not found \(named in params/weights\.yaml"):
        fetch_weights("resnet50_imagenet")


def test_a_file_of_the_user_in_the_place_of_weights_is_kept(project, register, checkpoint) -> None:
    own = project / "data/weights/tiny.safetensors"
    own.parent.mkdir(parents=True)
    save_file({"mine": torch.ones(3)}, own)
    register("tiny", checkpoint, "torch")
    with pytest.raises(InputError, match=r"tiny\.safetensors: exists, and this command did not write it"):
        fetch_weights("tiny")
    assert load_file(own).keys() == {"mine"}
    assert load_file(fetch_weights("tiny", overwrite=True)).keys() == TENSORS.keys()
    register("tiny", own, "safetensors")
    with pytest.raises(InputError, match="would overwrite the input"):
        fetch_weights("tiny", overwrite=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b'{"error": "not found"}', "an error message of a server"),
        (b"", "an empty file"),
    ],
)
def test_what_is_fetched_instead_of_weights_is_named(project, register, tmp_path, content, words) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    register("tiny", path, "torch")
    with pytest.raises(InputError, match=rf"w\.pth: not a checkpoint, but {words}"):
        fetch_weights("tiny")
    register("tiny", path, "torch", sha256="a" * 64)
    with pytest.raises(InputError, match=rf"SHA-256 is .*{words}"):
        fetch_weights("tiny")


def test_faults_of_a_download_name_its_url_and_no_file_that_is_gone(project, register, tmp_path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"epoch": 3}, path)
    with serving(bytes_of(path.read_bytes())) as url:
        register("tiny", path, "torch", url=f"{url}/w.pth")
        with pytest.raises(InputError, match=rf"^{url}/w\.pth: .*no state dict inside") as caught:
            fetch_weights("tiny")
    assert ".downloads" not in caught.value.faults[0]


def test_one_of_several_state_dicts_is_fetched_by_its_name(project, register, tmp_path) -> None:
    import yaml

    average = {name: tensor + 1 for name, tensor in TENSORS.items()}
    torch.save({"model": TENSORS, "ema": average}, tmp_path / "w.pth")
    register("tiny", tmp_path / "w.pth", "torch")
    assert torch.equal(load_file(fetch_weights("tiny"))["b"], TENSORS["b"])
    path = project / "params/weights.yaml"
    content = yaml.safe_load(path.read_text())
    content["weights"]["tiny"]["state_dict"] = "ema"
    path.write_text(yaml.safe_dump(content))
    assert torch.equal(load_file(fetch_weights("tiny"))["b"], average["b"])


def test_the_user_and_password_of_a_url_are_sent_to_its_host_alone(project, register, checkpoint) -> None:
    seen: list[tuple[str, str | None]] = []

    def seeing(name: str, answer: Answer) -> Answer:
        def see(handler: BaseHTTPRequestHandler) -> None:
            seen.append((name, handler.headers["Authorization"]))
            answer(handler)

        return see

    with (
        serving(seeing("other", bytes_of(checkpoint.read_bytes()))) as other,
        serving(seeing("first", redirect(f"{other}/w.pth"))) as first,
    ):
        url = first.replace("http://", "http://user:pass%40word@") + "/w.pth"
        register("tiny", checkpoint, "torch", url=url)
        assert read_metadata(fetch_weights("tiny"))["source"] == f"{first}/w.pth"
    assert seen == [("first", f"Basic {base64.b64encode(b'user:pass@word').decode()}"), ("other", None)]
