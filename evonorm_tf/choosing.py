"""Which layer for which training: `recommend`, with a source for each claim.

docs/choosing.md says the same at length. Numbers are the paper's, printed
beside ours in docs/results.md; a claim without a source is not made here.
"""

import dataclasses
from typing import Any, NamedTuple

from evonorm_tf import validation

TASKS = ("classification", "detection", "gan")
_PAPER = "arXiv:2004.02967v1"
# ImageNet top-1 % by images per worker, table 3: (bn_relu, evonorm_s0).
BY_BATCH = {
    "ResNet-50": {
        128: (76.1, 77.4),
        64: (76.2, 77.4),
        32: (76.1, 77.6),
        16: (75.6, 77.3),
        8: (74.3, 77.3),
        4: (70.7, 77.5),
    },
    "MobileNetV2": {
        128: (73.3, 74.0),
        64: (73.2, 74.0),
        32: (72.7, 73.9),
        16: (70.0, 73.9),
        8: (64.5, 73.9),
        4: (60.4, 73.8),
    },
}
# The smallest batch of table 3 at which BatchNorm, which stands there for
# batch statistics, is within 0.1 of its own 128-image value on both networks.
_BATCH_STATISTICS = 64
# Elements of a group on a one-pixel map below which S0's 1 / std scatters;
# the table is in docs/choosing.md.
_LEAST_GROUP = 16


class Reason(NamedTuple):
    """A claim, and the table, equation or document that it rests on."""

    claim: str
    source: str

    def __str__(self) -> str:
        return f"{self.claim} [{self.source}]"


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """What to begin with; `print` shows it with its reasons.

    Attributes:
      layer: the catalog name.
      min_group_size: for `NormAct`, the fewest channels a group may have.
      reasons: with their sources.
    """

    layer: str
    min_group_size: int
    reasons: tuple[Reason, ...]

    def options(self) -> dict[str, Any]:
        """Arguments of `NormAct` and `convert` beside the name."""
        return {"min_group_size": self.min_group_size}

    def __str__(self) -> str:
        head = f"{self.layer} (min_group_size={self.min_group_size})"
        return "\n".join([head, *(f"- {reason}" for reason in self.reasons)])


def recommend(
    *,
    batch_per_replica: int,
    task: str = "classification",
    small_maps: bool = False,
) -> Recommendation:
    """The layer to begin with.

    Args:
      batch_per_replica: images that one replica normalizes together; with
        `synchronized=True`, those of all replicas.
      task: "classification", "detection" or "gan".
      small_maps: whether layers stand on maps of one or a few pixels.

    Returns:
      A layer, its settings and why.

    Raises:
      ValueError: for an unknown task or a batch that is not positive.
      TypeError: for `small_maps` that is not a bool.
    """
    batch = validation.count("batch_per_replica", batch_per_replica, False)
    if not isinstance(small_maps, bool):
        raise TypeError(
            "`small_maps` must be True or False: whether layers stand on maps "
            f"of one or a few pixels. Received: small_maps={small_maps!r}"
        )
    if task not in TASKS:
        raise ValueError(
            f"`task` must be one of {TASKS}. Received: task={task!r}"
        )
    b0 = task != "gan" and batch >= _BATCH_STATISTICS
    reasons = _BY_TASK[task]
    if task != "gan":
        reasons = (_measured(batch), _LARGE if b0 else _SMALL, *reasons)
    reasons += () if b0 else (_GROUPS,)
    if small_maps:
        reasons += (_ONE_PIXEL if b0 else _SMALL_GROUPS,)
    return Recommendation(
        "evonorm_b0" if b0 else "evonorm_s0",
        _LEAST_GROUP if small_maps and not b0 else 1,
        (*reasons, _AFFINE),
    )


def _measured(batch: int) -> Reason:
    """What the paper measured at the batch, or at the next smaller one."""
    columns = BY_BATCH["ResNet-50"]
    column = max((b for b in columns if b <= batch), default=min(columns))
    measured = "; ".join(
        "{} at {} images per worker: bn_relu {} %, evonorm_s0 {} %".format(
            network, column, *values[column]
        )
        for network, values in BY_BATCH.items()
    )
    return Reason(f"ImageNet top-1, {measured}", f"{_PAPER} table 3")


_LARGE = Reason(
    "No layer has a better top-1 than B0 on ResNet-50 (77.8 %, bn_relu 76.1 %),"
    " ResNet-101 and MobileNetV2; on EfficientNet-B0 bn_silu has (77.0 %, B0 "
    "76.8 %)",
    f"{_PAPER} table 2",
)
_SMALL = Reason(
    "B layers use batch statistics as BatchNorm does, and the paper has none "
    "of them at small batches",
    f"arXiv:2004.02967 table 1; {_PAPER} table 3",
)
_BY_TASK = {
    "classification": (),
    "detection": (
        Reason(
            "Mask R-CNN, R-50-FPN, COCO box AP: evonorm_b0 44.0, evonorm_s0 "
            "43.6, gn_relu 42.7, bn_relu 42.1; how many images a worker had "
            "is not known here",
            f"{_PAPER} table 4",
        ),
    ),
    "gan": (
        Reason(
            "BigGAN-deep, median FID (lower is better): evonorm_s0 6.86, "
            "evonorm_b0 6.91, bn_relu 7.85; IS (higher is better) falls: "
            "104.64, 101.13, 118.77",
            f"{_PAPER} table 5",
        ),
    ),
}
_GROUPS = Reason(
    "32 groups, lowered one by one until they divide the channels",
    "the authors' code; evonorm_tf.validation.resolve_groups",
)
_SMALL_GROUPS = Reason(
    "On a map of one pixel a group of k channels has k elements: with one its "
    "variance is 0 and S0 divides by sqrt(epsilon), with few its inverse "
    f"scatters; so at least {_LEAST_GROUP} channels per group",
    "S0's formula, arXiv:2004.02967 table 1; docs/choosing.md",
)
_ONE_PIXEL = Reason(
    "On maps of one pixel B layers diverge in training: keep BatchNorm and its "
    "activation there, as `convert` does",
    "B0's formula, arXiv:2004.02967 table 1; docs/convert.md",
)
_AFFINE = Reason(
    "Where no activation follows (after the last 1x1 convolution of a "
    "MobileNetV2 or EfficientNet block) an EvoNorm is a plain affine, and "
    "`convert` keeps the old normalization",
    "the authors' code; docs/convert.md",
)
