"""The steps a job can name; the node finds them here and knows no algorithm itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atoll.core.errors import InputError
from atoll.node.steps.align import Align, AlignStep
from atoll.node.steps.ask import Ask, AskStep
from atoll.node.steps.base import Step, Work
from atoll.node.steps.bin import Bin, BinStep
from atoll.node.steps.compare import Compare, CompareStep
from atoll.node.steps.correlate import Correlate, CorrelateStep
from atoll.node.steps.describe import Describe, DescribeStep
from atoll.node.steps.evaluate import Evaluate, EvaluateStep
from atoll.node.steps.fit import Fit, FitStep
from atoll.node.steps.predict import Predict, PredictStep
from atoll.node.steps.split import Split, SplitStep
from atoll.node.steps.survival import Survival, SurvivalStep
from atoll.node.steps.test import Test, TestStep
from atoll.node.steps.train import Train, TrainStep

if TYPE_CHECKING:
    from atoll.node.job import Job

__all__ = ["STEPS", "AnyParams", "Compare", "Step", "Work", "asks", "build", "check_order"]

AnyParams = (
    Align | Split | Bin | Train | Evaluate | Predict | Ask | Compare | Describe | Test | Correlate | Survival | Fit
)

STEPS: Mapping[type, type[Step[Any]]] = {
    Align: AlignStep,
    Split: SplitStep,
    Bin: BinStep,
    Train: TrainStep,
    Evaluate: EvaluateStep,
    Predict: PredictStep,
    Ask: AskStep,
    Compare: CompareStep,
    Describe: DescribeStep,
    Test: TestStep,
    Correlate: CorrelateStep,
    Survival: SurvivalStep,
    Fit: FitStep,
}
"""Params type to step."""


def build(job: Job) -> tuple[Step[Any], ...]:
    """Make the steps of a job, in order."""
    return tuple(STEPS[type(params)](params, len(job.partners), job.topology) for params in job.steps)


def asks(job: Job) -> bool:
    """Whether a job answers a question; other jobs train or score."""
    return any(isinstance(params, Ask) for params in job.steps)


def check_order(job: Job) -> None:
    """Refuse steps that come before what they need.

    Raises:
        InputError: naming the step and the one that must come first.
    """
    if not job.steps:
        raise InputError("the job has no steps", cure="Begin with `- step: align`.")
    if asks(job) and len(job.steps) > 1:
        raise InputError(
            "a job that asks has other steps, too", step="ask", cure="Make a job of its own for each question."
        )
    kinds = {step.hub: step.name for step in reversed(build(job))}
    if len(kinds) > 1:
        raise InputError(
            f"the steps {' and '.join(kinds.values())} belong to different kinds of job",
            cure="Make a job of each kind.",
        )
    given: set[str] = set()
    for step in build(job):
        for need in step.needs:
            if need not in given:
                maker = next(kind.name for kind in STEPS.values() if need in kind.gives)
                raise InputError(
                    f"step {step.name} needs step {maker} before it", step=step.name, cure=f"Add `- step: {maker}`."
                )
        if step.name in given:
            cure = "Give each a name of its own, `name: …`." if hasattr(step.params, "name") else "Keep one of them."
            raise InputError(f"step {step.name} stands twice", step=step.name, cure=cure)
        given |= {step.name, *step.gives}
