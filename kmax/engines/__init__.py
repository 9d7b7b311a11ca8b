"""Results between the engines: what Snakemake made goes to DVC, what DVC holds is known to Snakemake."""

from kmax.engines.record import record
from kmax.engines.restore import restore

__all__ = ["record", "restore"]
