"""The two engines: DVC's pipelines are generated, and results are exchanged between Snakemake and DVC."""

from kmax.engines.pipelines import check_pipelines, write_pipelines
from kmax.engines.record import record
from kmax.engines.restore import restore

__all__ = ["check_pipelines", "record", "restore", "write_pipelines"]
