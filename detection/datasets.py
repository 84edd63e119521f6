"""Batches from TFRecords: batch k is a function of (seed, k).

A resumed run therefore sees the same examples, in the same order and with the
same augmentation, as an uninterrupted run, on any number of hosts. The batches
of an evaluation are padded to full ones.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder

from detection import parser
from detection.settings import Data, Model
from evonorm_tf import files
from training.images import batches, decoding, readers, records
from training.images.order import Order

# The source_id of an image that only pads a batch.
PADDING = -1
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


def training(
    model: Model,
    data: Data,
    seed: int,
    start_step: int = 0,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns batches of (images, labels), without end.

    Args:
      model: defines anchors, sizes and classes.
      data: defines records and augmentation; its own `seed`, if set, takes
        precedence over the run's.
      seed: of the run.
      start_step: the global step from which training resumes.
      context: identifies one of several input pipelines. Each reads its own
        share, and the batch does not depend on their number.

    Raises:
      ValueError: if files or examples are missing, or their number differs from
        the settings.
    """
    seed = seed if data.seed is None else data.seed
    parse = parser.build(model, data).parse_fn(is_training=True)
    decode = _decoder(model, data)

    def load(number: tf.Tensor, serialized: tf.Tensor, name: tf.Tensor):
        decoded = decode(serialized, name)
        return parse(decoded | {"seed": tf.stack([seed, number])})

    order = Order(seed, data.global_batch_size, data.shuffle_buffer_size)
    reader = open_records(data)
    return batches.training(reader, load, order, start_step, context)


def evaluation(
    model: Model,
    data: Data,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns batches of (images, labels) of every image once, without masks.

    Images that pad the last batches have the source_id `PADDING`. Arguments and
    errors are those of `training`.
    """
    bare = model.replace(include_mask=False)
    parse = parser.build(bare, data).parse_fn(is_training=False)
    decode = _decoder(bare, data)
    reader = open_records(data)

    def load(number: tf.Tensor, serialized: tf.Tensor, name: tf.Tensor):
        image, labels = parse(decode(serialized, name))
        truth = dict(labels["groundtruths"])
        truth["source_id"] = tf.where(
            number < reader.examples, truth["source_id"], PADDING
        )
        return image, labels | {"groundtruths": truth}

    return batches.evaluation(reader, load, data.global_batch_size, context)


def open_records(data: Data) -> readers.Shards:
    """Opens the records of a dataset.

    Raises:
      ValueError: if files or examples are missing, or their number differs from
        the settings.
    """
    # Sorted, so that epochs shuffle the same list on any machine.
    found = sorted(find(data.input_path))
    counts = records.counts(found)
    if not sum(counts):
        raise ValueError(
            "The files have no examples. Received: "
            f"input_path={data.input_path!r}"
        )
    if data.num_examples > 0 and data.num_examples != sum(counts):
        raise ValueError(
            f"The records contain {sum(counts):,} images; convert them again, "
            "or correct num_examples and input_path. Received: "
            f"num_examples={data.num_examples}, "
            f"input_path={data.input_path!r}"
        )
    return readers.Shards(
        tuple(map(readers.Shard, found, counts)), lambda one: (one,)
    )


def find(input_path: str | Sequence[str]) -> list[str]:
    """Returns the files of an `input_path`: a list of patterns, or with commas.

    A file that several patterns match is returned once. If a file with the
    whole name exists, it is not split, so that paths may contain commas.

    Raises:
      ValueError: if a pattern matches nothing.
    """
    given = [input_path] if isinstance(input_path, str) else input_path
    found: dict[str, str] = {}
    for pattern in (part for one in given for part in _parts(one)):
        matched = files.match(pattern)
        if not matched:
            raise ValueError(
                "There are no such records. Received: "
                f"input_path={input_path!r}"
            )
        for path in matched:
            found.setdefault(files.real(path), path)
    return list(found.values())


def _parts(given: str) -> list[str]:
    """Splits at the commas that do not belong to a path."""
    if files.match(given):
        return [given]
    return [part.strip() for part in given.split(",") if part.strip()]


def _decoder(model: Model, data: Data) -> Callable[..., dict]:
    """Returns f(serialized, name) to decoded tensors, with checked classes."""
    settings = data.decoder.simple_decoder
    decoder = Decoder(
        include_mask=model.include_mask,
        regenerate_source_id=settings.regenerate_source_id,
        mask_binarize_threshold=settings.mask_binarize_threshold,
    )

    def decode(serialized: tf.Tensor, name: tf.Tensor) -> dict:
        decoded = decoder.decode(serialized, name)
        ids = decoded["groundtruth_classes"]
        check = _require_classes(ids, model.num_classes, name)
        with tf.control_dependencies([] if check is None else [check]):
            decoded["groundtruth_classes"] = tf.identity(ids)
        return decoded

    return decode


def _require_classes(
    ids: tf.Tensor, num_classes: int, name: tf.Tensor
) -> tf.Operation | None:
    """Rejects class ids that would silently train with a class loss of 0."""
    valid = (ids > 0) & (ids < num_classes)
    text = tf.strings.join(
        [
            f"A class id is outside 1 to {num_classes - 1} "
            f"(model.num_classes={num_classes}, 0 is the background): of ",
            name,
            ". Received:",
        ]
    )
    wrong = tf.boolean_mask(ids, ~valid)
    return tf.debugging.Assert(tf.reduce_all(valid), [text, wrong])
