"""TensorFlow Lite files of a classifier."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

TFLITE = ("tflite", "tflite_float16")


def write_tflite(
    module: tf.Module, function: Any, name: str, path: str
) -> Callable[[tf.Tensor], np.ndarray]:
    """Converts and writes a classifier.

    Args:
      module: what holds its variables.
      function: its concrete function of images [N, H, W, C], uint8.
      name: one of `TFLITE`; "tflite_float16" keeps its weights in float16,
        half of the file, and computes in float32.
      path: where to.

    Returns:
      From images to logits, computed by the file.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function], module
    )
    if name == "tflite_float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    with open(path, "wb") as file:
        file.write(converter.convert())

    def logits(images: tf.Tensor) -> np.ndarray:
        interpreter = tf.lite.Interpreter(path)
        taken = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(taken, images.shape)
        serve = interpreter.get_signature_runner()
        return serve(images=np.asarray(images))["logits"]

    return logits
