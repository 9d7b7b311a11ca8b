import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from kmax import files, paths
from kmax.errors import InputError
from kmax.reporting import compare_reports, report
from kmax.reporting.measured import read_measured


class Page(HTMLParser):
    """Links and pictures of a page, and whether its tags close in order."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "img":
            self.pictures.append(attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def built(measure) -> Path:
    measure("shapes-tiny", 0.546)
    return report(["shapes-tiny", "shapes-smoke"])


def test_the_site_is_self_contained_and_its_links_work(built):
    site = built.parent
    pages = sorted(site.rglob("*.html"))
    assert [str(page.relative_to(site)) for page in pages] == ["index.html", "runs/shapes-tiny.html"]
    for path in pages:
        page = Page(path)
        assert page.open == []
        assert all("alt" in picture for picture in page.pictures)
        for link in page.links:
            if link == "data:,":
                continue
            assert not re.match(r"[a-z]+:|//|/", link), f"{link} leads out of the site"
            file, _, anchor = link.partition("#")
            target = (path.parent / unquote(file)).resolve() if file else path
            assert target.is_file(), f"{path}: {link}"
            if anchor:
                assert anchor in Page(target).ids
    assert "url(" not in (site / "style.css").read_text()


LOADS = re.compile(
    r"<(script|iframe|object|embed|base|form)\b|@import|\bon\w+\s*=\s*[\"']"
    r"|\b(src|srcset|href|poster|data|action)\s*=\s*[\"']?\s*([a-z]+:)?//|url\(\s*[\"']?\s*([a-z]+:)?//",
    re.IGNORECASE,
)


def test_no_page_table_or_figure_loads_anything_from_outside_or_runs_a_script(built):
    texts = [path for path in built.parents[1].rglob("*") if path.suffix in (".html", ".css", ".svg")]
    assert {path.suffix for path in texts} >= {".html", ".css"}
    loads = {path: found for path in texts if (found := LOADS.findall(path.read_text(encoding="utf-8")))}
    assert loads == {}


def test_a_run_has_overlays_cluster_maps_curves_bars_and_provenance(built):
    page = Page(built.parent / "runs/shapes-tiny.html")
    names = [Path(str(picture["src"])).name for picture in page.pictures]
    assert names == [
        "image.png",
        "ground_truth.png",
        "prediction.png",
        *(f"clusters_{layer}.png" for layer in range(1, 7)),
        "shapes-tiny-training.svg",
        "shapes-tiny-classes.svg",
    ]
    text = (built.parent / "runs/shapes-tiny.html").read_text()
    assert "c" * 40 in text
    assert "kmax panoptic quality (panopticapi rules) (version 1)" in text


def test_the_weights_on_the_page_are_those_of_the_figures_not_those_that_lie_there_now(measure):
    measure("shapes-tiny", 0.546)
    paths.model("shapes-tiny").write_bytes(b"trained since")
    page = (report(["shapes-tiny"]).parent / "runs/shapes-tiny.html").read_text()
    assert "a" * 64 in page
    assert "b" * 40 in page
    assert files.sha256(paths.model("shapes-tiny")) not in page


def test_equal_input_gives_equal_bytes(built):
    first = contents(paths.REPORTS)
    report(["shapes-tiny", "shapes-smoke"])
    assert contents(paths.REPORTS) == first


def test_a_report_can_go_elsewhere(measure):
    measure("shapes-tiny", 0.5)
    assert report(["shapes-tiny"], out=Path("elsewhere")) == Path("elsewhere/site/index.html")
    assert not paths.SITE.exists()


def test_a_report_of_nothing_still_shows_what_was_reported(project):
    page = report([]).read_text()
    assert page.count("not run") > 40


def test_a_corrupt_file_gives_a_one_line_error_and_keeps_the_old_report(built):
    before = contents(paths.REPORTS / "site")
    paths.metrics("shapes-tiny").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: measured figures cannot be read"):
        report(["shapes-tiny"])
    assert contents(paths.REPORTS / "site") == before


def test_comparison_lists_differing_figures_but_not_those_of_the_machine(built, project):
    published = project / "published"
    paths.TABLES.rename(published)
    speed = json.loads(paths.speed("shapes-tiny").read_text())
    speed["seconds"]["forward"]["median"] = 9.0
    paths.speed("shapes-tiny").write_text(json.dumps(speed))
    report(["shapes-tiny"])
    assert compare_reports(published) == []
    metrics = json.loads(paths.metrics("shapes-tiny").read_text())
    metrics["miou"]["miou"] = 0.5
    paths.metrics("shapes-tiny").write_text(json.dumps(metrics))
    report(["shapes-tiny"])
    (cross, shapes) = compare_reports(published)
    assert str(shapes) == "shapes: kMaX tiny: mIoU: measured: ours 50.0, published 61.2"
    assert cross.table == "cross_attention"


def test_comparison_lists_missing_tables_and_requires_some(built, project):
    (paths.TABLES / "shapes.csv").rename("shapes.csv")
    report(["shapes-tiny"], out=Path("whole"))
    assert {d.table for d in compare_reports(Path("whole"))} == {"shapes"}
    with pytest.raises(InputError, match="no tables"):
        compare_reports(project / "params/runs")


def test_tables_from_mlflow_are_those_from_files(measure, project, monkeypatch):
    pytest.importorskip("mlflow")
    from kmax.reporting.config import read_tables
    from kmax.reporting.measured import measured_from_mlflow
    from kmax.reporting.report import write_tables
    from kmax.reporting.tables import fill_tables
    from kmax.runs.families import load_run
    from kmax.tracking.mlflow_store import sync
    from kmax.tracking.tracker import track

    monkeypatch.setenv("KMAX_TRACKING", "off")
    manifest = paths.prepared_manifest("shapes_smoke")
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"digest": "5" * 64}))
    runs = ["coco-resnet50", "coco-resnet50-s1", "shapes-tiny", "coco-convnext_l-tfzoo"]
    for number, name in enumerate(runs):
        run = load_run("shapes-smoke").model_copy(update={"run": name})
        measure(name, 0.5 + number / 97)
        for stage in ("evaluate", "benchmark"):
            with track(run, stage):
                pass
    sync()
    from_files, from_mlflow = read_measured(runs), measured_from_mlflow([*runs, "shapes-smoke"])
    assert from_mlflow == from_files
    tables, reference = read_tables()
    for name, measured in (("files", from_files), ("mlflow", from_mlflow)):
        write_tables(project / name, fill_tables(tables, reference, measured))
    assert contents(project / "files") == contents(project / "mlflow")
    assert any(b"\xc2\xb1" in text for text in contents(project / "files").values())
