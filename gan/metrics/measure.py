"""Measures a set of images in one pass, and compares two sets."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from gan import experiment
from gan.metrics import extractor, frechet, inception, kernel
from gan.metrics.moments import Moments
from gan.metrics.score import ClassScore

Array = np.ndarray
Join = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The statistics of a set of images.

    Attributes:
      facts: provenance: the set, its size, the extractor, ...
      moments: of the features.
      kept: a few of them [m, d], for the kernel distance.
      score: mean and deviation of the class score.
    """

    facts: dict[str, str]
    moments: Moments
    kept: Array
    score: tuple[float, float]


def open_extractor(settings: experiment.Evaluation) -> extractor.Extractor:
    """Opens the extractor in the file that the settings name.

    Raises:
      ValueError: if there is none, its hash is different, or it is of another
        kind.
    """
    if settings.extractor == "inception":
        return inception.Inception(settings.path, settings.sha256)
    if settings.extractor == "classifier":
        return extractor.load(settings.path, settings.sha256)
    raise ValueError(
        "An extractor from a file must be classifier or inception; only a run "
        "has its own. Received: "
        f"task.evaluation.extractor={settings.extractor!r}"
    )


def facts(
    name: str,
    count: int,
    extract: extractor.Extractor,
    settings: experiment.Evaluation,
) -> dict[str, str]:
    """Returns the facts that identify statistics of a set.

    Args:
      name: describes the set, its pixels and their size.
      count: number of images.
      extract: the extractor.
      settings: of the evaluation.
    """
    return {
        "images": name,
        "count": str(count),
        **extract.facts,
        "covariance": "divided by n - 1, float64",
        "score": f"{settings.splits} shuffled splits",
        "kernel": (
            f"(x y / d + 1)^3, {settings.kernel_blocks} blocks at most, of "
            f"{settings.kernel_block}"
        ),
    }


def measure(
    batches: Iterable[Array],
    extract: extractor.Extractor,
    settings: experiment.Evaluation,
    name: str,
    count: int,
    join: Join | None = None,
    seed: int = 0,
) -> Statistics:
    """Processes all images once.

    Args:
      batches: pixels [n, S, S, 3], uint8; `count` in all. Further ones only
        pad the last batches.
      extract: the extractor.
      settings: of the evaluation.
      name: see `facts`.
      count: number of images.
      join: for several workers, each of which has a part of every batch,
        concatenates the parts of an array.
      seed: of the choice for the kernel distance. Two sets that are compared
        need different ones: with the same, images in the same places would
        meet in a block, and a set would be too close to its own copy.

    Raises:
      ValueError: if there are too few images, or not `count`.
    """
    require_enough(count, extract, settings, name)
    moments = Moments(extract.size)
    score = ClassScore(count, extract.classes, settings.splits)
    wanted = settings.kernel_block * settings.kernel_blocks
    kept = kernel.Kept(count, extract.size, wanted, seed)
    for pixels in batches:
        features, logits = extract(pixels)
        if join:
            left = count - moments.count
            features, logits = join(features)[:left], join(logits)[:left]
        moments.update(features)
        score.update(logits)
        kept.update(features)
    return Statistics(
        facts(name, count, extract, settings),
        moments,
        kept.features,
        score.result(),
    )


def require_enough(
    count: int,
    extract: extractor.Extractor,
    settings: experiment.Evaluation,
    name: str,
) -> None:
    """Rejects a set that is too small, before its images are processed.

    Raises:
      ValueError: if there are not more images than features, so that the
        covariance would be singular, too few for the kernel distance or the
        score, or no block or split.
    """
    if count <= extract.size:
        raise ValueError(
            "A covariance with as many features as samples is singular. Use "
            f"more than {extract.size} images (for generated ones, set "
            f"task.evaluation.samples above {extract.size}), or an extractor "
            f"with fewer features. Received: samples={count} of {name}"
        )
    if settings.kernel_block and not 2 <= settings.kernel_block <= count:
        raise ValueError(
            "A block of the kernel distance needs at least two samples of each "
            "set, and at most the size of the sets. Set kernel_block from 2 to "
            f"{count}, or 0 for none. "
            f"Received: kernel_block={settings.kernel_block}, {name}"
        )
    if settings.kernel_blocks < 1:
        raise ValueError(
            "The kernel distance needs at least one block. Set kernel_blocks "
            "above 0; kernel_block=0 leaves the distance out. "
            f"Received: kernel_blocks={settings.kernel_blocks}"
        )
    if not 1 <= settings.splits <= count:
        raise ValueError(
            f"Every split of the score needs at least one sample of {name}. "
            f"Received: splits={settings.splits}, samples={count}"
        )


def compare(
    real: Statistics,
    made: Statistics,
    extract: extractor.Extractor,
    settings: experiment.Evaluation,
) -> dict[str, float]:
    """Returns the distances of two sets, and the score of the second.

    Args:
      real: the first set.
      made: the second, with the same facts of extractor and metrics.
      extract: the extractor.
      settings: of the evaluation.
    """
    names = extract.names
    found = {names.distance: frechet.distance(real.moments, made.moments)}
    if settings.kernel_block:
        mean, deviation = kernel.distance(
            real.kept, made.kept, settings.kernel_block, settings.kernel_blocks
        )
        found |= {names.kernel: mean, f"{names.kernel}_std": deviation}
    mean, deviation = made.score
    return found | {names.score: mean, f"{names.score}_std": deviation}


def about(
    real: Statistics, made: Statistics, settings: experiment.Evaluation
) -> str:
    """Describes the provenance of the numbers of `compare`."""
    text = (
        f"{made.facts['count']} images, {made.facts['images']}, against "
        f"{real.facts['count']}, {real.facts['images']}; "
        f"{extractor.about(real.facts)}; score over {real.facts['score']}"
    )
    if settings.kernel_block:
        text += f"; kernel distance {real.facts['kernel']}"
    return text
