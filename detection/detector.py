"""A detector for use: images in, boxes in their own pixels out."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.vision.ops import preprocess_ops

from detection import results, settings
from training.images import decoding

Outputs = dict[str, tf.Tensor]


class Detector:
    """A network with the preprocessing and postprocessing of an evaluation.

    The outputs for N images, padded to K detections each, are
      num_detections: [N], the number of detections without padding.
      detection_boxes: [N, K, 4], top, left, bottom, right, in pixels of the
        input image. As in an evaluation they may extend beyond it, where the
        network saw padding.
      detection_classes: [N, K], category ids.
      detection_scores: [N, K].
      detection_masks: [N, K, h, w], in [0, 1], of the box; only with masks.
      detection_outer_boxes: [N, K, 4], the larger boxes of the masks, if
        outer_boxes_scale is above 1.
    """

    def __init__(self, model: tf_keras.Model, params: settings.Model):
        """Args: the network, and its config for the size of its input."""
        self.model = model
        self._size = list(params.input_size[:2])
        self._stride = 2**params.max_level

    def _scaled(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps uint8 [H, W, 3] to the network's input and its image_info."""
        return preprocess_ops.resize_and_crop_image(
            preprocess_ops.normalize_image(image),
            self._size,
            preprocess_ops.compute_padded_size(self._size, self._stride),
            aug_scale_min=1.0,
            aug_scale_max=1.0,
        )

    def _network(self, inputs: tf.Tensor, info: tf.Tensor) -> Outputs:
        """Maps the network's inputs [N, H, W, 3] and image_info to outputs."""
        found = self.model(inputs, info[:, 1, :], training=False)
        outputs = {k: v for k, v in found.items() if k.startswith("detection_")}
        scale = tf.tile(info[:, 2:3, :], [1, 1, 2])
        for name in outputs:
            if name.endswith("boxes"):
                outputs[name] = found[name] / scale
        outputs["num_detections"] = found["num_detections"]
        return outputs

    def _scale_all(self, prepare: Any, given: tf.Tensor) -> Any:
        return tf.map_fn(prepare, given, fn_output_signature=self._specs())

    def _specs(self, *batch: int | None) -> tuple[tf.TensorSpec, tf.TensorSpec]:
        shape = self.model.backbone.input_shape[1:]
        return tf.TensorSpec([*batch, *shape]), tf.TensorSpec([*batch, 4, 2])

    def images(self, images: tf.Tensor) -> Outputs:
        """Returns the detections in uint8 [N, H, W, 3].

        This is not compiled: building the graph, with a loop for each class,
        takes longer than processing tens of images.
        """
        return self._network(*self._scale_all(self._scaled, images))

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Returns the signatures of a SavedModel: "images" and "encoded".

        The latter takes the bytes [N] of JPEG or PNG files of any size.
        """
        # Both share one graph of the network. It has no control flow to
        # convert, and AutoGraph would take three times as long.
        network = tf.function(self._network, self._specs(None), autograph=False)

        @tf.function
        def images(images: tf.Tensor) -> Outputs:
            return network(*self._scale_all(self._scaled, images))

        def decode(one: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = decoding.exportable(one)
            return self._scaled(tf.ensure_shape(image, [None, None, 3]))

        @tf.function
        def encoded(encoded: tf.Tensor) -> Outputs:
            return network(*self._scale_all(decode, encoded))

        pictures = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
        files = tf.TensorSpec([None], tf.string, name="encoded")
        return {
            "serving_default": images.get_concrete_function(pictures),
            "encoded": encoded.get_concrete_function(files),
        }


def to_coco(
    outputs: dict[str, Any], image: np.ndarray, image_id: int = 0
) -> list[dict]:
    """Returns the detections in one image as COCO results.

    Args:
      outputs: of a `Detector`, for N = 1.
      image: [H, W, 3], its input.
      image_id: the image's.
    """
    size = np.array(image.shape[:2], np.float32)
    one = {name: np.asarray(value)[0] for name, value in outputs.items()}
    # Its boxes are already in the image's own pixels.
    one["image_info"] = np.stack([size, size, np.ones(2), np.zeros(2)])
    return results.to_coco(one, image_id)
