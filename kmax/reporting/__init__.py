"""Tables, figures and the site."""

from kmax.reporting.measured import measured_from_mlflow
from kmax.reporting.report import compare_reports, report

__all__ = ["compare_reports", "measured_from_mlflow", "report"]
