"""The demonstration as a whole: three institutions' processes, real loans, from the first file to the last report."""

import tempfile

from bench.harness import Report, run_processes

TITLE = "The demonstration: a credit model of three institutions"
SIZES = {"small": "60000", "medium": "100000", "large": "all"}
"""Loans of the fiscal years 1998 to 2003; each institution lacks a random third of them."""


def run(size: str, report: Report) -> None:
    """Run `atoll demo credit-risk` and report its time, traffic, and what the partnership gained."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", "atoll.cli", "demo", "credit-risk", "--rows", SIZES[size], "--out", folder, "--json"]
        done = run_processes({"demo": words}, timeout=900)["demo"]
    figures = done.value
    rows, steps = figures["rows"], figures["steps"]
    spent = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in steps.items() if seconds >= 0.1)
    report.row(
        f"{SIZES[size]} loans, whole demonstration", figures["seconds"], unit="s", goal=60.0,
        bytes=figures["bytes"], peak_mb=done.peak_mb, note=f"{rows['common']:,} loans in common; {spent}",
    )  # fmt: skip
    used, over = figures["vectors"]
    for measure in ("auc", "ks"):
        report.row(
            f"{SIZES[size]} loans, {measure.upper()}", figures["partnership"][measure], unit=measure.upper(),
            peer=figures["alone"][measure], peer_name="bank alone",
            limit=figures["pooled"][measure], limit_name="pooled",
            note=f"{used} vectors over {over:,} rows (T/n = {used / over:.4f})",
        )  # fmt: skip
