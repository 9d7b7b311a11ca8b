"""Results between the engines: what Snakemake made goes to DVC, what DVC holds is known to Snakemake."""

from kmax.versioning.record import record
from kmax.versioning.restore import restore

__all__ = ["record", "restore"]
