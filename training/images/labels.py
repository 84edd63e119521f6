"""Labels that are outside the classes stop a run: they would train silently."""

import tensorflow as tf


def inside(
    label: tf.Tensor, classes: int, name: tf.Tensor, settings: str
) -> tf.Tensor:
    """The label, int32, with an error where it is not 0 to classes - 1.

    Args:
      label: a scalar.
      classes: how many there are.
      name: a scalar string, what an error calls the example.
      settings: what could be set instead of fixing the label.
    """
    label = tf.cast(label, tf.int64)
    message = tf.strings.join(
        [
            "A label is outside the classes, 0 to ",
            f"{classes - 1}: of ",
            name,
            f". Fix it, or set {settings}. Received: label=",
            tf.strings.as_string(label),
        ]
    )
    valid = tf.logical_and(label >= 0, label < classes)
    check = tf.debugging.Assert(valid, [message])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.cast(label, tf.int32)
