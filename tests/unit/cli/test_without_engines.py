"""The library needs neither Snakemake nor DVC nor MLflow."""

import shutil
from pathlib import Path

from commandline import run_python, tree

ENGINES = ("snakemake", "dvc", "mlflow")
CODE = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {engines}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Absent())
sys.modules.update(dict.fromkeys({engines}))

import kmax
from kmax.cli.main import call

for verb in ("train", "predict", "evaluate", "benchmark"):
    assert call([verb, "shapes-mini"]) == 0, verb
loaded = [name for name, module in sys.modules.items() if module and name.split(".")[0] in {engines}]
assert not loaded, loaded
"""


def test_train_predict_evaluate_run_without_the_engines(finished: Path, tmp_path: Path) -> None:
    for name in ("params", "data"):
        shutil.copytree(finished / name, tmp_path / name)
    answer = run_python(tmp_path, CODE.format(engines=ENGINES), KMAX_TRACKING="on")
    assert answer.returncode == 0, answer.stderr
    assert "reports/metrics/shapes-mini/metrics.json" in tree(tmp_path)
    assert "results/shapes-mini/model.safetensors" in tree(tmp_path)
