"""`recommend`: which layer to use, with a source for each claim.

docs/choosing.md explains the recommendations in detail. The numbers are the
paper's; docs/results.md compares them with ours.
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
# The smallest batch of table 3 at which BatchNorm, the only layer there with
# batch statistics, is within 0.1 of its own 128-image value on both networks.
_BATCH_STATISTICS = 64
# Minimum number of elements of a group on a one-pixel map; with fewer, the
# factor 1 / std of S0 varies widely (table in docs/choosing.md).
_LEAST_GROUP = 16


class Reason(NamedTuple):
    """A claim, and the table, equation or document that supports it."""

    claim: str
    source: str

    def __str__(self) -> str:
        return f"{self.claim} [{self.source}]"


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """A recommended layer; `print` shows it with the reasons.

    Attributes:
      layer: the catalog name.
      min_group_size: argument of `NormAct`, the minimum number of channels
        per group.
      reasons: the reasons, with their sources.
    """

    layer: str
    min_group_size: int
    reasons: tuple[Reason, ...]

    def options(self) -> dict[str, Any]:
        """Returns arguments for `NormAct` and `convert` besides the name."""
        return {"min_group_size": self.min_group_size}

    def __str__(self) -> str:
        head = self.layer
        if self.min_group_size > 1:
            head += f" (min_group_size={self.min_group_size})"
        return "\n".join([head, *(f"- {reason}" for reason in self.reasons)])


def recommend(
    *,
    batch_per_replica: int,
    task: str = "classification",
    small_maps: bool = False,
    pretrained: bool = False,
) -> Recommendation:
    """Recommends a layer to start with.

    Example:
        ```python
        print(evonorm_tf.recommend(batch_per_replica=8, task="detection"))
        ```

    Args:
      batch_per_replica: number of images that a replica normalizes together;
        with `synchronized=True`, those of all replicas.
      task: "classification", "detection" or "gan".
      small_maps: whether the model has layers on feature maps of one or a few
        pixels.
      pretrained: whether a network trained with BatchNorm is to be converted
        and fine-tuned.

    Returns:
      A layer, its settings and the reasons.

    Raises:
      ValueError: if the task is unknown or the batch is not positive.
      TypeError: if `small_maps` or `pretrained` is not a bool.
    """
    batch = validation.count("batch_per_replica", batch_per_replica, False)
    for name, given in (("small_maps", small_maps), ("pretrained", pretrained)):
        if not isinstance(given, bool):
            raise TypeError(
                f"`{name}` must be True or False. Received: {name}={given!r}"
            )
    if task not in TASKS:
        raise ValueError(
            f"`task` must be one of {TASKS}. Received: task={task!r}"
        )
    b0 = task != "gan" and batch >= _BATCH_STATISTICS
    reasons = _BY_TASK[task]
    if task != "gan":
        paper = (_measured(batch), _SMALL, _OURS)
        if b0:
            paper = (_LARGE, _measured(batch))
        reasons = (*paper, *reasons)
    reasons += () if b0 else (_GROUPS,)
    if pretrained:
        reasons += (_PRETRAINED,)
    if small_maps:
        reasons += (_ONE_PIXEL if b0 else _SMALL_GROUPS,)
    return Recommendation(
        "evonorm_b0" if b0 else "evonorm_s0",
        _LEAST_GROUP if small_maps and not b0 else 1,
        (*reasons, _AFFINE),
    )


def _measured(batch: int) -> Reason:
    """Cites the paper's measurement at the batch or the next smaller one."""
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
    "B layers use batch statistics as BatchNorm does, and the paper does not "
    "test them at small batches",
    f"arXiv:2004.02967 table 1; {_PAPER} table 3",
)
_OURS = Reason(
    "Our small runs do not confirm that S0 is ahead at small batches: "
    "ResNet-20 on CIFAR-10, 3 epochs, two seeds, from 128 images per step to "
    "4, bn_relu 70.8 to 66.9 %, evonorm_b0 67.3 to 67.8 %, evonorm_s0 63.5 to "
    "65.4 %",
    "our runs; docs/results.md",
)
_BY_TASK = {
    "classification": (),
    "detection": (
        Reason(
            "Mask R-CNN, R-50-FPN, COCO box AP: evonorm_b0 44.0, evonorm_s0 "
            "43.6, gn_relu 42.7, bn_relu 42.1; the number of images per "
            "worker is not known",
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
_PRETRAINED = Reason(
    "In a short fine-tuning at batch 8 (EfficientNet-Lite0, CIFAR-10, 1,500 "
    "steps, one seed) no conversion was as good as BatchNorm with frozen "
    "statistics, 70.9 %, or trained, 63.1 %: evonorm_b0 59.9 %, gn_silu "
    "30.8 %, evonorm_s0 23.0 %. A long fine-tuning was not measured",
    "our runs; docs/results.md",
)
_GROUPS = Reason(
    "32 groups, lowered one by one until the number divides the channels",
    "the authors' code; evonorm_tf.validation.resolve_groups",
)
_SMALL_GROUPS = Reason(
    "On a map of one pixel a group of k channels has k elements. With one, its "
    "variance is 0 and S0 divides by sqrt(epsilon); with few, its inverse "
    f"varies widely. Use at least {_LEAST_GROUP} channels per group",
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
