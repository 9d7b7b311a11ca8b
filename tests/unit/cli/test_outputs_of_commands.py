"""No command replaces a file of the user: only its own earlier outputs, or with `--overwrite`."""

import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from kmax.cli.main import call
from kmax.errors import InputError
from kmax.evaluation.submission.submission_archives import _write, require_archive_name
from kmax.reporting.report_folder import require_report_folder

G, P = "data/prepared/shapes_mini", "results/shapes-mini/predictions"
PANOPTIC = ["--gt-json", f"{G}/panoptic_val.json", "--gt-dir", f"{G}/panoptic_val"]
PANOPTIC += ["--pred-json", f"{P}/panoptic.json", "--pred-dir", f"{P}/panoptic", "--workers", "1"]
MODEL = "results/shapes-mini/model.safetensors"
PORT = ["--model", "kmax_tiny", "--dataset", "shapes_mini", "--image-size", "65", "65", "--flavour", "tf"]
PORT += ["--num-clusters", "4"]
COMMANDS = {
    "pq": (["metrics", "pq", *PANOPTIC], f"{P}/panoptic.json"),
    "miou": (["metrics", "miou", *PANOPTIC], f"{G}/panoptic_val.json"),
    "compare": (
        ["compare", "shapes-mini", "shapes-mini", "--samples", "5"],
        "reports/metrics/shapes-mini/metrics.json",
    ),
    "schema": (["params", "schema", "run"], "params/runs/mini.yaml"),
    "show": (["data", "show", "shapes_mini", "--count", "1"], f"{G}/panoptic_train.json"),
    "port": (["port-file", "safetensors", MODEL, *PORT], MODEL),
}


@pytest.fixture
def project(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(copy)
    return copy


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_replaces_its_own_outputs_and_no_other_file(project: Path, command: str, capsys) -> None:
    words, an_input = COMMANDS[command]
    out = project / "out.safetensors"
    assert call([*words, "--out", str(out)]) == 0
    first = out.read_bytes()
    assert call([*words, "--out", str(out)]) == 0, capsys.readouterr().err
    assert out.read_bytes() == first

    out.write_text("a diary")
    assert call([*words, "--out", str(out)]) == 2
    assert "out.safetensors: exists, and this command did not write it" in capsys.readouterr().err
    assert out.read_text() == "a diary"
    assert call([*words, "--out", str(out), "--overwrite"]) == 0
    assert out.read_bytes() == first

    kept = Path(an_input).read_bytes()
    for options in ([], ["--overwrite"]):
        capsys.readouterr()
        assert call([*words, "--out", an_input, *options]) == 2
        assert Path(an_input).read_bytes() == kept
    (line,) = capsys.readouterr().err.splitlines()
    assert "would overwrite the input" in line or "is in the input folder" in line


def test_outputs_of_one_command_are_not_replaced_by_another(project: Path, capsys) -> None:
    assert call([*COMMANDS["pq"][0], "--out", "figures.json"]) == 0
    for other in ("miou", "compare"):
        assert call([*COMMANDS[other][0], "--out", "figures.json"]) == 2
    assert call(["port-file", "safetensors", MODEL, *PORT, "--out", "figures.json"]) == 2


def test_every_file_of_the_error_analysis_is_checked(project: Path, capsys) -> None:
    words = [*COMMANDS["pq"][0], "--explain", "explained"]
    assert call(words) == call(words) == 0
    Path("explained/images.csv").write_text("my own list\n")
    assert call(words) == 2
    assert "explained/images.csv: exists" in capsys.readouterr().err
    assert call([*words, "--out", "explained/summary.json", "--overwrite"]) == 2
    assert "is the name of two outputs" in capsys.readouterr().err


def test_the_report_beside_a_ported_model_is_checked_too(project: Path, capsys) -> None:
    Path("m.port.json").write_text("{}")
    assert call([*COMMANDS["port"][0], "--out", "m.safetensors"]) == 2
    assert "m.port.json: exists" in capsys.readouterr().err
    assert not Path("m.safetensors").exists()


def test_the_places_of_outputs_are_checked_before_the_work(project: Path, capsys) -> None:
    Path("file").write_text("x")
    shutil.move(P, "predictions")  # the work would fail
    for out in ("file/x.json", "params", "/dev/null"):
        assert call([*COMMANDS["pq"][0], "--out", out]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"kmax: {out}: ")


def test_a_port_names_what_it_leaves_out(project: Path, capsys) -> None:
    from kmax.model.io import load_model

    state = load_model(Path(MODEL))[0].state_dict()
    content = {"model_ema": {f"_orig_mod.module.{name}": one for name, one in state.items()} | {"step": 1}}
    torch.save({**content, "model": None}, "w.pth")
    assert call(["port-file", "torch", "w.pth", *PORT, "--out", "m.safetensors"]) == 0
    ported = load_model(Path("m.safetensors"))[0].state_dict()
    assert all(torch.equal(ported[name], state[name]) for name in state)
    assert '"reason": "not a weight: int"' in Path("m.port.json").read_text()


def test_a_report_replaces_reports_and_nothing_else(project: Path, capsys) -> None:
    shutil.copytree(Path(__file__).resolve().parents[3] / "params", "params", dirs_exist_ok=True)
    report = ["report", "shapes-mini", "--out", "rep"]
    assert call(report) == call(report) == 0, capsys.readouterr().err
    foreign = {"tables/notes.csv": "a,b", "figures/photo.svg": "<svg/>", "site/CNAME": "example.org"}
    for name, text in foreign.items():
        path = Path("rep", name)
        path.write_text(text)
        assert call(report) == 2
        assert f"rep/{name}: is not a file of a report" in capsys.readouterr().err
        assert path.read_text() == text
        path.unlink()
    Path("rep/tables/.snakemake_timestamp").touch()
    Path("rep/site/.DS_Store").touch()
    assert call(report) == 0
    Path("rep/figures/photo.svg").touch()
    assert call([*report, "--overwrite"]) == 0
    assert not Path("rep/figures/photo.svg").exists()
    assert call([*report, "--check", "rep"]) == 2
    assert "rep/tables: would overwrite the input rep/tables" in capsys.readouterr().err


def test_a_folder_of_a_report_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("x")
    (tmp_path / "home").mkdir()
    (tmp_path / "tables").symlink_to("home")
    with pytest.raises(InputError) as caught:
        require_report_folder(["a"], tmp_path, None, overwrite=False)
    tables, site = caught.value.faults
    assert "tables: is a symbolic link" in tables
    assert "site: is not a folder" in site
    with pytest.raises(InputError, match=r"cannot be written: .*site is not a folder"):
        require_report_folder(["a"], tmp_path / "site", None, overwrite=False)


def test_archives_for_servers_replace_archives_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("labels.zip")
    require_archive_name(out, "a", None, overwrite=False)
    _write(out, [("a.png", b"x"), ("b.png", b"y")])
    require_archive_name(out, "a", None, overwrite=False)
    for content in (b"", b"PK\x03\x04", b"text"):
        out.write_bytes(content)
        with pytest.raises(InputError, match=r"labels\.zip: exists"):
            require_archive_name(out, "a", None, overwrite=False)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.png", b"x")
    with pytest.raises(InputError, match=r"labels\.zip: exists"):
        require_archive_name(out, "a", None, overwrite=False)
    require_archive_name(out, "a", None, overwrite=True)
    predictions = tmp_path / "results/a/predictions"
    predictions.mkdir(parents=True)
    (predictions / "panoptic.json").write_text("{}")
    with pytest.raises(InputError, match="is in the input folder"):
        require_archive_name(predictions / "panoptic.json", "a", None, overwrite=True)
