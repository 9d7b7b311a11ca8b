"""Tables, figures and the site."""

from kmax.reporting.build import compare_reports, report
from kmax.reporting.from_mlflow import measured_from_mlflow

__all__ = ["compare_reports", "measured_from_mlflow", "report"]
