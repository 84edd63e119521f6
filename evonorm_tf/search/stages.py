"""The stages of a trial, in order, and how each decides.

The cheapest and most selective stages come first: the quality test on the
first anchor, stability (which rejects most layers without normalization within
five steps), the other anchors, then the longer trainings. A trial ends at its
first failure. Only trials that lead with the first seed get further seeds.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from evonorm_tf.search.settings import Settings

# Loss of guessing among the ten classes.
GUESS = math.log(10)

Results = Mapping[str, Mapping[str, Any]]


class Task(NamedTuple):
    """One stage of one trial: the input of a worker."""

    trial: int
    stage: str
    graph: str


class Outcome(NamedTuple):
    """The result of a worker.

    Attributes:
      task: its input.
      result: numbers by name; empty if the stage failed.
      error: why it failed, "" otherwise.
      cpu: CPU seconds.
    """

    task: Task
    result: dict[str, Any]
    error: str
    cpu: float


def names(settings: Settings) -> list[str]:
    """Returns the stages of a trial that leads, in order; see `required`."""
    return required(settings) + [
        f"confirm{number}/{anchor}"
        for number in range(1, settings.confirmations + 1)
        for anchor in settings.anchors
    ]


def required(settings: Settings) -> list[str]:
    """Returns the stages that a trial must pass to be accepted."""
    first, *others = settings.anchors
    stages = []
    if settings.rejection:
        stages = [f"quality/{first}", "stability"]
        stages += [f"quality/{anchor}" for anchor in others]
    if _score(settings) == "fitness":
        stages += [f"fitness/{anchor}" for anchor in settings.anchors]
    return stages


def _score(settings: Settings) -> str:
    """Returns the kind of stage by which layers are ranked."""
    same = settings.fitness_steps == settings.quality_steps
    return "quality" if same and settings.rejection else "fitness"


def rejecting(settings: Settings) -> list[str]:
    """Returns the stages that reject by their results."""
    return [
        name
        for name in required(settings)
        if name.partition("/")[0] in ("quality", "stability")
    ]


def steps(stage: str, settings: Settings) -> int:
    """Returns the number of steps of a training stage."""
    if stage.startswith("quality/"):
        return settings.quality_steps
    return settings.fitness_steps


def seed(stage: str, settings: Settings) -> int:
    """Returns the seed of a training stage: the search's or a further one."""
    kind = stage.partition("/")[0]
    if not kind.startswith("confirm"):
        return settings.seed
    return settings.seed + int(kind.removeprefix("confirm"))


def early_exit(stage: str, settings: Settings) -> bool:
    """Returns whether the early exit can end a training stage.

    It is a part of rejection. Without it, only quality tests have it, by which
    the search is judged afterwards like one with rejection.
    """
    tests = settings.rejection or stage.startswith("quality/")
    return settings.early_exit and tests


def objection(outcome: Outcome, settings: Settings) -> str:
    """Returns why a trial ends with this outcome; "" if it continues."""
    if outcome.error:
        return outcome.error
    stage, result = outcome.task.stage, outcome.result
    if stage == "stability":
        if not result["norm"] <= settings.stability:
            return (
                f"gradient norm {result['norm']:.3g} after "
                f"{result['steps']} steps of ascent"
            )
    elif stage.startswith("quality/"):
        if result["steps"] < settings.quality_steps:
            return f"loss {result['loss']:.3g} at step {result['steps']}"
        if result["accuracy"] < settings.quality:
            return f"accuracy {result['accuracy']:.3f}"
    return ""


def scores(results: Results, settings: Settings) -> dict[str, float]:
    """Returns accuracies by anchor for a trial that passed all its stages.

    They are means over the seeds with which every anchor was trained.
    """
    by_seed = seeds(results, settings)
    return {
        a: sum(found[a] for found in by_seed) / len(by_seed)
        for a in settings.anchors
    }


def mean(scores: Mapping[str, float]) -> float:
    """Returns the mean over the anchors, by which layers are ranked."""
    return sum(scores.values()) / len(scores)


def seeds(results: Results, settings: Settings) -> list[dict[str, float]]:
    """Returns accuracies by anchor for every seed that has all anchors."""
    further = range(1, settings.confirmations + 1)
    found = []
    for kind in (_score(settings), *(f"confirm{k}" for k in further)):
        stages = {a: results.get(f"{kind}/{a}") for a in settings.anchors}
        if all(stages.values()):
            found.append({a: r["accuracy"] for a, r in stages.items()})
    return found
