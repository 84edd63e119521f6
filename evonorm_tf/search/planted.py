"""A planted layer: is it found, where the score says how near one is?

    python -m evonorm_tf.search planted --target=evonorm_s2 --space=s \
        --seeds=5 --trials=6000 --set=population=300

Nothing is trained. A graph's score is R^2 of its output against the target's
on the probes, each channel fitted by an affine of its own: 1 for the target
and all that equals it up to gamma and beta. This tests the moves, tournaments
and the fingerprint, and says nothing about accuracies.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evonorm_tf.graphs.graph import Graph
from evonorm_tf.search import arms, filters
from evonorm_tf.search.evolution import Proposal
from evonorm_tf.search.settings import Settings, make
from evonorm_tf.search.stages import Outcome

# R^2 above which a graph counts as the target.
FOUND = 1.0 - 1e-6


def outputs(graph: Graph) -> np.ndarray | None:
    """The first probe's output [pixels, channels]; None if not finite."""
    with np.errstate(all="ignore"):
        y = filters.evaluate_numpy(graph, filters.PROBES[0], filters.GROUPS)
    if not np.isfinite(y).all():
        return None
    return np.broadcast_to(y, filters.SHAPE).reshape(-1, filters.SHAPE[-1])


def closeness(graph: Graph, target: np.ndarray) -> float:
    """R^2 over all channels, of the best affine of each; at least 0."""
    y = outputs(graph)
    if y is None:
        return 0.0
    y, wanted = y - y.mean(0), target - target.mean(0)
    power = (y * y).sum(0)
    with np.errstate(all="ignore"):
        fit = np.where(power > 0, (y * wanted).sum(0) / power, 0.0)
    left = wanted - fit * y
    value = 1.0 - (left * left).sum() / (wanted * wanted).sum()
    return float(value) if np.isfinite(value) else 0.0


def settings_for(*layers: Mapping[str, Any]) -> Settings:
    """Settings of a search for a planted layer, with those of `layers`."""
    chosen = {"anchors": ["resnet"], "rejection": False, "criterion": "average"}
    return make(chosen, *layers)


def search(target: Graph, settings: Settings, trials: int) -> int | None:
    """The number of trials it took to find the target; None if it did not."""
    wanted = outputs(target)
    if wanted is None:
        raise ValueError(
            "The target must have finite outputs on the probes. "
            f"Received: target={target.text()!r}"
        )

    def measure(proposal: Proposal, stage: str) -> Outcome:
        result = {"accuracy": closeness(proposal.graph, wanted)}
        return Outcome(arms.task(proposal, stage), result, "", 0.0)

    ended = arms.simulate(settings, measure, trials)
    return next((i for i, e in enumerate(ended, 1) if e.score > FOUND), None)
