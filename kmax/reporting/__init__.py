"""Tables, figures and the site."""

from kmax.reporting.measured import measured_from_mlflow
from kmax.reporting.report import compare_reports, report
from kmax.reporting.report_folder import require_report_folder

__all__ = ["compare_reports", "measured_from_mlflow", "report", "require_report_folder"]
