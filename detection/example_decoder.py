"""The Model Garden's decoder of examples, with our decoder of image files."""

from typing import Any

import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder

from training.images import decoding

_ADVICE = (
    "Convert the images again: `python -m detection.data convert` finds all "
    "such."
)
_ID = "image/source_id"


class Decoder(tf_example_decoder.TfExampleDecoder):
    """Decodes serialized examples; errors name the record.

    The parent's operation does not name a file that it cannot decode, and
    accepts files with more than 8 bits per channel.
    """

    def decode(
        self, serialized_example: tf.Tensor, name: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Returns what the parent's docstring lists.

        Args:
          serialized_example: a scalar string.
          name: a scalar string, name of the record in errors.
        """
        self._name = tf.constant("a record") if name is None else name
        return super().decode(serialized_example)

    def _decode_image(self, parsed_tensors: dict[str, Any]) -> tf.Tensor:
        parts = [self._name, " (image id ", parsed_tensors[_ID], ")"]
        name = tf.strings.join(parts) if _ID in parsed_tensors else self._name
        image = decoding.full_image(
            parsed_tensors["image/encoded"], name, _ADVICE
        )
        return tf.ensure_shape(image, [None, None, 3])
