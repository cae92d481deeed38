"""One self-contained HTML report per site and job, from one typed record."""

from atoll.report.build import SECUREBOOST, disclosure, performance
from atoll.report.model import (
    Alignment,
    Answered,
    Audit,
    AuditRow,
    Comparison,
    Disclosure,
    Feature,
    History,
    Job,
    Leakage,
    Overlap,
    Party,
    Performance,
    ReportData,
    Series,
    StepCost,
    Threshold,
    Traffic,
)
from atoll.report.page import read_data, render, write_report
from atoll.report.story import summary_text

__all__ = [
    "SECUREBOOST",
    "Alignment",
    "Answered",
    "Audit",
    "AuditRow",
    "Comparison",
    "Disclosure",
    "Feature",
    "History",
    "Job",
    "Leakage",
    "Overlap",
    "Party",
    "Performance",
    "ReportData",
    "Series",
    "StepCost",
    "Threshold",
    "Traffic",
    "disclosure",
    "performance",
    "read_data",
    "render",
    "summary_text",
    "write_report",
]
