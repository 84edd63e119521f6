"""Converts a decoded training example to targets, depending on a seed.

This is the Model Garden's Parser with every random choice a function of the
example's seed: flips, scale, crop, and the sampled anchors. A resumed run
therefore sees the same as an uninterrupted one.
"""

from typing import Any

import tensorflow as tf
from official.vision.dataloaders import maskrcnn_input
from official.vision.ops import anchor, box_ops, preprocess_ops

from detection import sampling
from detection.settings import Data, Model

Tensors = dict[str, tf.Tensor]
# Fields of `Data.parser` that the Model Garden does not use either;
# `check_config` rejects values other than the default.
UNREAD = (
    "num_channels",
    "match_threshold",
    "unmatched_threshold",
    "pad",
    "keep_aspect_ratio",
)


class Parser(maskrcnn_input.Parser):
    """Takes decoded examples with an additional `seed`, [2]."""

    def _parse_train_data(self, data: Tensors) -> tuple[tf.Tensor, dict]:
        """Returns the image, and labels as in the parent's docstring."""
        seeds = tf.unstack(
            tf.random.experimental.stateless_split(data["seed"], 5)
        )
        boxes, classes = data["groundtruth_boxes"], data["groundtruth_classes"]
        masks = data.get("groundtruth_instance_masks")
        if masks is None:  # A Faster R-CNN.
            masks = tf.zeros([tf.shape(boxes)[0], 1, 1])
        crowd = data["groundtruth_is_crowd"]
        if self._skip_crowd_during_training:
            keep = tf.cond(
                tf.size(crowd) > 0,
                lambda: ~crowd,
                lambda: tf.ones_like(classes, tf.bool),
            )
            boxes, classes, masks = (
                tf.boolean_mask(part, keep) for part in (boxes, classes, masks)
            )
        size = tf.shape(data["image"])[:2]
        image = preprocess_ops.normalize_image(data["image"])
        if self._aug_rand_hflip:
            image, boxes, masks = _flipped(image, boxes, masks, 1, seeds[0])
        if self._aug_rand_vflip:
            image, boxes, masks = _flipped(image, boxes, masks, 0, seeds[1])
        image, info = self._cropped(image, seeds[2], seeds[3])
        boxes = preprocess_ops.resize_and_crop_boxes(
            box_ops.denormalize_boxes(boxes, size), info[2], info[1], info[3]
        )
        seen = box_ops.get_non_empty_box_indices(boxes)
        boxes, classes, masks = (
            tf.gather(part, seen) for part in (boxes, classes, masks)
        )
        labels = self._targets(boxes, classes, image.shape[:2], seeds[4])
        labels["image_info"] = info
        if self._include_mask:
            labels |= self._mask_targets(boxes, masks, size, info)
        return tf.cast(image, self._dtype), labels

    def _cropped(
        self, image: tf.Tensor, scale_seed: tf.Tensor, place_seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scales, crops and pads the image randomly; returns its info too.

        The info is [4, 2]: the original size, the output's, the scale, and the
        offset of the crop.
        """
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        output = tf.constant(self._output_size, tf.float32)
        times = tf.random.stateless_uniform(
            [], scale_seed, self._aug_scale_min, self._aug_scale_max
        )
        wanted = tf.round(times * output)
        scaled = tf.round(size * tf.reduce_min(wanted / size))
        image = tf.image.resize(image, tf.cast(scaled, tf.int32))
        room = tf.maximum(scaled - output, 0)
        place = tf.random.stateless_uniform([2], place_seed)
        offset = tf.floor(room * place)
        start = tf.cast(offset, tf.int32)
        end = start + tf.constant(self._output_size)
        image = image[start[0] : end[0], start[1] : end[1]]
        padded = preprocess_ops.compute_padded_size(
            self._output_size, 2**self._max_level
        )
        image = tf.image.pad_to_bounding_box(image, 0, 0, *padded)
        return image, tf.stack([size, output, scaled / size, offset])

    def _targets(
        self, boxes: tf.Tensor, classes: tf.Tensor, size: Any, seed: tf.Tensor
    ) -> dict[str, Any]:
        """Returns anchors, their targets, and the padded boxes."""
        anchors = anchor.build_anchor_generator(
            min_level=self._min_level,
            max_level=self._max_level,
            num_scales=self._num_scales,
            aspect_ratios=self._aspect_ratios,
            anchor_size=self._anchor_size,
        )(image_size=tuple(size))
        labeler = sampling.AnchorLabeler(
            seed,
            self._rpn_batch_size_per_im,
            match_threshold=self._rpn_match_threshold,
            unmatched_threshold=self._rpn_unmatched_threshold,
            rpn_fg_fraction=self._rpn_fg_fraction,
        )
        kinds = tf.cast(classes[:, tf.newaxis], tf.float32)
        scores, offsets = labeler.label_anchors(anchors, boxes, kinds)
        return {
            "anchor_boxes": anchors,
            "rpn_score_targets": scores,
            "rpn_box_targets": offsets,
            "gt_boxes": self._padded(boxes),
            "gt_classes": self._padded(classes),
        }

    def _mask_targets(
        self, boxes: tf.Tensor, masks: tf.Tensor, size: Any, info: tf.Tensor
    ) -> Tensors:
        """Returns each mask in its (outer) box, [K, mask_crop_size squared]."""
        outer = box_ops.compute_outer_boxes(
            boxes, info[1], self._outer_boxes_scale
        )
        # Back to the image of the masks.
        places = (outer + tf.tile(info[3], [2])) / tf.tile(info[2], [2])
        places = box_ops.normalize_boxes(places, size)
        whole = tf.cast(masks, tf.float32)[..., tf.newaxis]
        side = self._mask_crop_size

        def cut(index: tf.Tensor) -> tf.Tensor:
            place, which = places[index][tf.newaxis], index[tf.newaxis]
            found = tf.image.crop_and_resize(whole, place, which, [side, side])
            return found[0, ..., 0]

        # One by one: for an unknown number, TensorFlow warns that it cannot
        # estimate the cost.
        parts = tf.map_fn(
            cut,
            tf.range(tf.shape(masks)[0]),
            fn_output_signature=tf.TensorSpec([side, side]),
        )
        return {
            "gt_outer_boxes": self._padded(outer),
            "gt_masks": self._padded(parts),
        }

    def _padded(self, values: tf.Tensor) -> tf.Tensor:
        return preprocess_ops.clip_or_pad_to_fixed_size(
            values, self._max_num_instances, -1
        )


def _flipped(
    image: tf.Tensor,
    boxes: tf.Tensor,
    masks: tf.Tensor,
    axis: int,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Flips image, boxes (fractions) and masks together, or none of them.

    Axis 1 of the image swaps left and right.
    """
    start, end = boxes[:, axis], boxes[:, axis + 2]
    sides = [boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]]
    sides[axis], sides[axis + 2] = 1 - end, 1 - start
    flip = tf.random.stateless_uniform([], seed) < 0.5
    return (
        tf.where(flip, tf.reverse(image, [axis]), image),
        tf.where(flip, tf.stack(sides, 1), boxes),
        tf.where(flip, tf.reverse(masks, [axis + 1]), masks),
    )


def build(model: Model, data: Data) -> Parser:
    """Returns the parser of a dataset's examples for a model.

    Args:
      model: defines anchors and sizes.
      data: defines the augmentation; `aug_type` must be none.
    """
    settings = data.parser.as_dict()
    for name in UNREAD:
        del settings[name]
    return Parser(
        output_size=list(model.input_size[:2]),
        min_level=model.min_level,
        max_level=model.max_level,
        include_mask=model.include_mask,
        outer_boxes_scale=model.outer_boxes_scale,
        dtype=data.dtype,
        **model.anchor.as_dict(),
        **settings,
    )
