"""All that is measured of a set of images, in one pass; two sets compared."""

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
    """What is kept of a set of images.

    Attributes:
      facts: how it was made: the set, its number, the extractor, ...
      moments: of the features.
      kept: a few of them [m, d], for the kernel distance.
      score: mean and deviation of the class score.
    """

    facts: dict[str, str]
    moments: Moments
    kept: Array
    score: tuple[float, float]


def open_extractor(settings: experiment.Evaluation) -> extractor.Extractor:
    """The extractor in a file that the settings name.

    Raises:
      ValueError: none there, another hash, or another kind.
    """
    if settings.extractor == "inception":
        return inception.Inception(settings.path, settings.sha256)
    if settings.extractor == "classifier":
        return extractor.load(settings.path, settings.sha256)
    raise ValueError(
        "An extractor from a file is a classifier or inception; only a run "
        "has its own. Received: "
        f"task.evaluation.extractor={settings.extractor!r}"
    )


def facts(
    name: str,
    count: int,
    extract: extractor.Extractor,
    settings: experiment.Evaluation,
) -> dict[str, str]:
    """What statistics of a set must be known by.

    Args:
      name: of the set, its pixels and their size, in words.
      count: its images.
      extract: what it is seen through.
      settings: how it is measured.
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
) -> Statistics:
    """Sees all images once.

    Args:
      batches: of pixels [n, S, S, 3], uint8; `count` in all, or more, which
        only fill the last batches.
      extract: what they are seen through.
      settings: how they are measured.
      name: see `facts`.
      count: their number.
      join: of several workers, each of which has a part of every batch, puts
        the parts of an array together.

    Raises:
      ValueError: too few images, or another number than `count`.
    """
    require_enough(count, extract, settings, name)
    moments = Moments(extract.size)
    score = ClassScore(count, extract.classes, settings.splits)
    wanted = settings.kernel_block * settings.kernel_blocks
    kept = kernel.Kept(count, extract.size, wanted)
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
    """Refuses a set that is too small, before its images are seen.

    Raises:
      ValueError: no more images than features, which leaves the covariance
        singular, or fewer than the kernel distance or the score asks for.
    """
    if count <= extract.size:
        raise ValueError(
            "A covariance of as many features as samples is singular. Give "
            f"more than {extract.size} images (of made ones, set "
            f"task.evaluation.samples above {extract.size}), or an extractor "
            f"of fewer features. Received: samples={count} of {name}"
        )
    if settings.kernel_block and not 2 <= settings.kernel_block <= count:
        raise ValueError(
            "A block of the kernel distance needs two samples of each set at "
            "least, and no more than there are. Set kernel_block from 2 to "
            f"{count}, or 0 for none. "
            f"Received: kernel_block={settings.kernel_block}, {name}"
        )
    if not 1 <= settings.splits <= count:
        raise ValueError(
            f"Every split of the score needs a sample of {name}. "
            f"Received: splits={settings.splits}, samples={count}"
        )


def compare(
    real: Statistics,
    made: Statistics,
    extract: extractor.Extractor,
    settings: experiment.Evaluation,
) -> dict[str, float]:
    """The distances of two sets, and the score of the second."""
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
    """How the numbers of `compare` were made, in words."""
    text = (
        f"{made.facts['count']} images, {made.facts['images']}, against "
        f"{real.facts['count']}, {real.facts['images']}; "
        f"{extractor.about(real.facts)}; score over {real.facts['score']}"
    )
    if settings.kernel_block:
        text += f"; kernel distance {real.facts['kernel']}"
    return text
