"""The arms of the paper's ablation, under equal conditions.

Space, cheap filters, fingerprint, proxy task and seeds are equal. The arms
differ in how graphs are proposed and whether quality and stability reject them
(Section 4, arXiv:2004.02967).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from evonorm_tf.graphs.graph import Graph
from evonorm_tf.search import stages
from evonorm_tf.search.evolution import Evolution, ExhaustedError, Proposal
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome, Task

ARMS: dict[str, dict[str, Any]] = {
    "random": {"algorithm": "random", "rejection": False},
    "random+rejection": {"algorithm": "random", "rejection": True},
    "average": {
        "algorithm": "evolution",
        "criterion": "average",
        "rejection": True,
    },
    "pareto": {
        "algorithm": "evolution",
        "criterion": "pareto",
        "rejection": True,
    },
}
# What an arm is; nothing else may set it.
DEFINING = ("algorithm", "criterion", "rejection")
# Maps (proposal, stage) to what a worker would have found.
Measure = Callable[[Proposal, str], Outcome]


class Ended(NamedTuple):
    """A simulated trial at its end.

    Attributes:
      graph: the graph.
      cpu: CPU seconds of all trials up to this one.
      score: mean accuracy; 0 if it was rejected.
    """

    graph: Graph
    cpu: float
    score: float


def settings_of(arm: str, settings: Settings) -> Settings:
    """Returns the settings of an arm, otherwise those of `settings`."""
    if arm not in ARMS:
        raise ValueError(
            f"An arm must be one of {', '.join(ARMS)}. Received: arm={arm!r}"
        )
    return dataclasses.replace(settings, **ARMS[arm])


def folder(arm: str) -> str:
    """Returns the name of an arm's folder."""
    return arm.replace("+", "_")


def simulate(settings: Settings, measure: Measure, trials: int) -> list[Ended]:
    """Simulates a search whose stages are looked up instead of computed.

    Proposals, stages and verdicts are those of a real run with one worker. It
    ends early if there is no new graph.

    Args:
      settings: of the search.
      measure: returns the outcome of a stage.
      trials: number of trials.
    """
    evolution, names = Evolution(settings), stages.names(settings)
    found, cpu = [], 0.0
    for trial in range(trials):
        try:
            proposal = evolution.ask(trial)
        except ExhaustedError:
            break
        results, reason = {}, ""
        for name in names:
            outcome = measure(proposal, name)
            results[name], cpu = outcome.result, cpu + outcome.cpu
            reason = stages.objection(outcome, settings)
            if reason:
                break
        score = 0.0
        if not reason:
            scores = stages.scores(results, settings)
            evolution.tell(trial, proposal.graph, scores)
            score = stages.mean(scores)
        found.append(Ended(proposal.graph, cpu, score))
    return found


def task(proposal: Proposal, stage: str) -> Task:
    """Returns a task of a simulated search; its number is meaningless."""
    return Task(0, stage, proposal.graph.text())
