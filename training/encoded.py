"""Image files as bytes: read from records in an order, decoded in part.

The order of an epoch is a function of seed and epoch alone, so a run that
goes on reads what an unbroken one would have.

JPEG and PNG are decoded by TensorFlow, a JPEG in the asked part alone. What
does not begin and end as either should goes through Pillow, which also reads
the rest (GIF, BMP, WebP, bytes after a JPEG's end) or else names the record:
TensorFlow's own error would not say which of a million images it was.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

_SHARDS_AT_ONCE = 16
_RECORDS_IN_TURN = 16
# First and last bytes of a whole file.
_JPEG = (b"\xff\xd8\xff", b"\xff\xd9")
_PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")


def order(examples: int, seed: int, number: tf.Tensor | None) -> tf.Tensor:
    """0 to examples - 1, int64, in the order of an epoch.

    Args:
      examples: how many.
      seed: of the order.
      number: of the epoch, int64; None for the order as it is.
    """
    indices = tf.range(examples, dtype=tf.int64)
    if number is None:
        return indices
    return tf.random.experimental.stateless_shuffle(
        indices, seed=tf.stack([tf.constant(seed, tf.int64), number])
    )


def records(
    shards: Sequence[tuple[str, int, int]],
    examples: int,
    seed: int,
    number: tf.Tensor | None,
    buffer: int,
) -> tf.data.Dataset:
    """(serialized, file, index in the file) of each record of an epoch.

    Shuffled in the order of the files and, within a buffer, of the records.

    Args:
      shards: of each TFRecord file its path, records to skip, and records to
        take, -1 for all.
      examples: how many in all; reading other than that many is an error.
      seed: of the order.
      number: of the epoch, int64; None for the order of the files.
      buffer: records that are shuffled among each other.
    """
    paths = tf.constant([path for path, _, _ in shards])
    begins = tf.constant([skip for _, skip, _ in shards], tf.int64)
    counts = tf.constant([take for _, _, take in shards], tf.int64)

    # Not converted: TensorFlow's constants of ints would be int32.
    @tf.autograph.experimental.do_not_convert
    def read(shard: tf.Tensor) -> tf.data.Dataset:
        # Not tf.unstack: TensorFlow 2.20 dies of a count that is an
        # operation's second output.
        path, skip, take = paths[shard], begins[shard], counts[shard]
        content = tf.data.TFRecordDataset(path).skip(skip).take(take)
        places = tf.data.Dataset.range(skip, tf.int64.max)
        files = tf.data.Dataset.from_tensors(path).repeat()
        return tf.data.Dataset.zip((content, files, places))

    dataset = tf.data.Dataset.from_tensor_slices(
        order(len(shards), seed, number)
    ).interleave(
        read,
        cycle_length=min(len(shards), _SHARDS_AT_ONCE),
        block_length=_RECORDS_IN_TURN,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # A file that has grown or shrunk would shift every epoch after it.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(examples))
    if number is None:
        return dataset
    # The seed of this function's graph: the order must not hang on the
    # global seed, and TensorFlow cannot add a tensor to a global 0.
    tf.random.set_seed(1)
    return dataset.shuffle(
        buffer,
        seed=seed * 1_000_003 + number,
        reshuffle_each_iteration=False,
    )


def record_name(file: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """What an error calls a record of `records`: scalars."""
    index = tf.strings.as_string(index)
    return tf.strings.join(["record ", index, " of ", file])


def window(
    encoded: tf.Tensor,
    name: tf.Tensor,
    choose: Callable[[tf.Tensor], tf.Tensor],
    advice: str = "Mend or remove it.",
) -> tf.Tensor:
    """The part of an image that `choose` picks.

    Args:
      encoded: a scalar string, the file's bytes.
      name: a scalar string, what an error calls the image.
      choose: from the image's shape [3] to top, left, height and width [4].
      advice: what an error says to do.

    Returns:
      [height, width, 3], uint8.
    """

    def jpeg():
        part = choose(tf.image.extract_jpeg_shape(encoded))
        return tf.image.decode_and_crop_jpeg(encoded, part, channels=3)

    def png():
        return _cut(tf.io.decode_png(encoded, channels=3), choose)

    def other():
        pixels = tf.numpy_function(
            lambda *inputs: _pillow(*inputs, advice), [encoded, name], tf.uint8
        )
        pixels.set_shape([None, None, 3])
        return _cut(pixels, choose)

    is_jpeg, is_png = _is(encoded, *_JPEG), _is(encoded, *_PNG)
    kind = tf.where(is_jpeg, 0, tf.where(is_png, 1, 2))
    return tf.switch_case(kind, [jpeg, png, other])


def _cut(
    image: tf.Tensor, choose: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    top, left, height, width = tf.unstack(choose(tf.shape(image)))
    return image[top : top + height, left : left + width]


def _is(encoded: tf.Tensor, begin: bytes, end: bytes) -> tf.Tensor:
    length = tf.strings.length(encoded)
    first = tf.strings.substr(encoded, 0, len(begin))
    last = tf.strings.substr(
        encoded, tf.maximum(length - len(end), 0), len(end)
    )
    return (first == begin) & (last == end)


def _pillow(
    encoded: bytes | np.ndarray, name: bytes | np.ndarray, advice: str
) -> np.ndarray:
    # In a graph they are bytes, outside of one arrays.
    encoded, name = (np.asarray(x, object).item() for x in (encoded, name))
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return np.asarray(image.convert("RGB"))
    # What Pillow raises on broken files, SyntaxError by its PNG reader.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(
            f"{name.decode(errors='replace')} is no image that can be "
            f"decoded ({error}). {advice} Received: "
            f"{len(encoded)} bytes, the first {encoded[:8]!r}"
        ) from error
