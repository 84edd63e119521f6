"""Parameters and multiply-adds of every detection row, with the paper's.

    python -m detection.model_cost                # every row, minutes
    python -m detection.model_cost coco/r101      # rows with this prefix
    python -m detection.model_cost coco/r50_fpn/evonorm_b1    # or any layer

Models are built as graphs only; no weights are allocated and nothing is run.

Multiply-adds are those of convolutions, transposed convolutions and dense
layers. Element-wise work (normalization, activation, biases, sums, resizing)
and operations on boxes are not counted.

The cost of a head is proportional to the number of regions. Two counts are
printed: for training (the sampled regions, by default 512 for boxes and 128 for
masks) and for inference (1000 proposals, 100 detections). The paper does not
say which it counts; training is 0.3 to 0.45 % below each of its numbers, and
inference 11 to 14 % above.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from detection import (
    experiment,  # noqa: F401  Registers what rows name.
    model,
    settings,
)
from detection.tables import TABLES
from evonorm_tf.errors import did_you_mean
from training import config
from training.report import Row

# Contractions that do not occur in these networks.
_UNCOUNTED = ("BatchMatMul", "BatchMatMulV2", "Conv3D", "Einsum", "XlaDot")


@dataclasses.dataclass(frozen=True)
class Count:
    """The cost of a model.

    Attributes:
      parameters: trainable ones.
      image: multiply-adds of backbone, pyramid and RPN head, per image.
      box: of the box head, per region.
      mask: of the mask head, per region; 0 without one.
    """

    parameters: int
    image: int
    box: int
    mask: int

    def multiply_adds(self, boxes: int, masks: int) -> int:
        """Returns those of an image with these numbers of regions."""
        return self.image + boxes * self.box + masks * self.mask

    def training(self, params: settings.Model) -> int:
        """Returns the multiply-adds of one image with sampled regions."""
        return self.multiply_adds(
            params.roi_sampler.num_sampled_rois,
            params.mask_sampler.num_sampled_masks,
        )

    def inference(self, params: settings.Model) -> int:
        """Returns those with all proposals and a mask per detection."""
        return self.multiply_adds(
            params.roi_generator.test_num_proposals,
            params.detection_generator.max_num_detections,
        )


def count(params: settings.Model) -> Count:
    """Builds and counts a model, without allocating its weights.

    Args:
      params: the model's settings.
    """
    with tf.Graph().as_default():
        return of(model.build(params), params)


def of(built: Any, params: settings.Model) -> Count:
    """Counts a model.

    Args:
      built: from `model.build(params)`.
      params: its settings.
    """

    def trunk(images: tf.Tensor) -> Any:
        features = built.backbone(images, training=False)
        if built.decoder is not None:
            features = built.decoder(features, training=False)
        return built.rpn_head(features, training=False)

    def box(features: tf.Tensor) -> Any:
        return built.detection_head[0](features, training=False)

    def mask(features: tf.Tensor, classes: tf.Tensor) -> Any:
        return built.mask_head([features, classes], training=False)

    finest = (built.decoder or built.backbone).output[str(params.min_level)]
    channels = finest.shape[-1]

    def region(aligner: Any) -> tf.TensorSpec:
        side = aligner.crop_size
        return tf.TensorSpec([1, 1, side, side, channels])

    masks = 0
    if built.mask_head is not None:
        one = tf.TensorSpec([1, 1], tf.int32)
        masks = _traced(mask, region(params.mask_roi_aligner), one)
    return Count(
        sum(math.prod(w.shape) for w in built.trainable_weights),
        _traced(trunk, tf.TensorSpec([1, *params.input_size])),
        _traced(box, region(params.roi_aligner)),
        masks,
    )


def _traced(function: Callable[..., Any], *specs: tf.TensorSpec) -> int:
    """Returns the multiply-adds of a function's graph of static shapes."""
    graph = tf.function(function).get_concrete_function(*specs).graph
    return sum(_multiply_adds(op) for op in graph.get_operations())


def _multiply_adds(op: tf.Operation) -> int:
    """Returns those of one operation: kernel elements times positions."""
    if op.type in _UNCOUNTED:
        raise ValueError(
            f"Operations of this type are not counted; add it to "
            f"detection/model_cost.py. Received: type={op.type!r}, {op.name=}"
        )
    if op.type not in (
        "Conv2D",
        "Conv2DBackpropInput",
        "DepthwiseConv2dNative",
        "MatMul",
    ):
        return 0
    kernel = op.inputs[1].shape
    if op.type == "MatMul":  # [N, K] by [K, M]
        places = op.inputs[0].shape[0]
    elif op.type == "Conv2DBackpropInput":  # A transposed convolution.
        places = math.prod(op.inputs[2].shape[:3])
    else:
        places = math.prod(op.outputs[0].shape[:3])
    return places * math.prod(kernel)


def _rows(prefix: str) -> list[Row]:
    """Returns the detection rows with a prefix, or the one with an id."""
    known = TABLES.rows()
    found = [row for name, row in known.items() if name.startswith(prefix)]
    try:
        return found or [TABLES.find(prefix)]
    except ValueError:
        raise ValueError(
            f"No detection row has this prefix. {did_you_mean(prefix, known)}"
            f"Received: prefix={prefix!r}"
        ) from None


def _paper(row: Row, name: str) -> str:
    """Returns the paper's values for a row and metric; "-" for none."""
    found = [v for m, values in row.paper.items() if m.name == name
             for v in values]  # fmt: skip
    return found[0].printed if found else "-"


def lines(chosen: Iterable[Row]) -> Iterable[str]:
    """Yields the lines of the table, as they are counted.

    Args:
      chosen: rows of the detection head.
    """
    layout = "{:<32} {:>9} {:>9} {:>11} {:>11} {:>9}"
    yield layout.format(
        "row", "M weights", "paper", "B training", "B inference", "paper"
    )
    counted: dict[str, Count] = {}
    for row in chosen:
        params = config.parse(row=row).task.model
        key = str(params.as_dict())  # Recipes share models.
        if key not in counted:
            counted[key] = count(params)
        found = counted[key]
        yield layout.format(
            row.id,
            f"{found.parameters / 1e6:.2f}",
            _paper(row, "parameters M"),
            f"{found.training(params) / 1e9:.1f}",
            f"{found.inference(params) / 1e9:.1f}",
            _paper(row, "multiply-adds B"),
        )


def main(arguments: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m detection.model_cost",
        description="Parameters and multiply-adds, ours and the paper's.",
    )
    parser.add_argument(
        "prefix", nargs="?", default="", help="count only rows with this prefix"
    )
    given = parser.parse_args(arguments)
    try:
        chosen = _rows(given.prefix)
    except ValueError as error:
        sys.exit(f"detection.model_cost: {error}")
    for line in lines(chosen):
        print(line, flush=True)


if __name__ == "__main__":
    main()
