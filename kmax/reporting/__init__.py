"""Tables, figures and the site."""

from kmax.reporting.build import compare_reports, report
from kmax.reporting.measured import measured_from_mlflow

__all__ = ["compare_reports", "measured_from_mlflow", "report"]
