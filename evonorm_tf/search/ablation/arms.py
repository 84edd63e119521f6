"""The arms of the paper's ablation, on the same footing.

Equal space, cheap filters, fingerprint, proxy task and seeds; what differs
is where a graph comes from and whether quality and stability reject it
(Section 4, arXiv:2004.02967).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from evonorm_tf.graphs.graph import Graph
from evonorm_tf.search import stages
from evonorm_tf.search.evolution import Evolution, Proposal
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome, Task

ARMS: dict[str, dict[str, Any]] = {
    "random": {"algorithm": "random", "rejection": False},
    "random+rejection": {"algorithm": "random"},
    "average": {"algorithm": "evolution", "criterion": "average"},
    "pareto": {"algorithm": "evolution", "criterion": "pareto"},
}
# (proposal, stage) -> what a worker would have found.
Measure = Callable[[Proposal, str], Outcome]


class Ended(NamedTuple):
    """A simulated trial at its end.

    Attributes:
      graph: the graph.
      cpu: seconds that all trials up to this one took.
      score: mean accuracy; 0 if it was rejected.
    """

    graph: Graph
    cpu: float
    score: float


def settings_of(arm: str, settings: Settings) -> Settings:
    """The settings of an arm; all else is that of `settings`."""
    if arm not in ARMS:
        raise ValueError(
            f"An arm is one of {', '.join(ARMS)}. Received: arm={arm!r}"
        )
    return dataclasses.replace(settings, **ARMS[arm])


def folder(arm: str) -> str:
    """An arm's name as a folder's."""
    return arm.replace("+", "_")


def simulate(settings: Settings, measure: Measure, trials: int) -> list[Ended]:
    """A search whose stages are looked up instead of computed.

    The proposals, the stages and the verdicts are those of a real run with
    one worker.

    Args:
      settings: of the search.
      measure: gives the outcome of a stage.
      trials: how many.
    """
    evolution, names = Evolution(settings), stages.names(settings)
    found, cpu = [], 0.0
    for trial in range(trials):
        proposal = evolution.ask(trial)
        if proposal is None:
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
            score = sum(scores.values()) / len(scores)
        found.append(Ended(proposal.graph, cpu, score))
    return found


def task(proposal: Proposal, stage: str) -> Task:
    """A task of a simulated search; its number says nothing."""
    return Task(0, stage, proposal.graph.text())
