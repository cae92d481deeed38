"""How good a score is: discrimination, calibration, bands and stability, on one site's own labels."""

from atoll.evaluate.metrics import (
    auc,
    auc_gain,
    brier,
    calibration,
    confusion,
    gains,
    ks,
    ks_curve,
    log_loss,
    psi,
    roc,
    score_bands,
)

__all__ = [
    "auc",
    "auc_gain",
    "brier",
    "calibration",
    "confusion",
    "gains",
    "ks",
    "ks_curve",
    "log_loss",
    "psi",
    "roc",
    "score_bands",
]
