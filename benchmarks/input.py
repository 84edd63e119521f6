"""Images per second of the ImageNet training input, vs. the Model Garden.

    python -m benchmarks.input --data_dir DIR [--json FILE]

The images of DIR (TFDS's layout) are read from there, and from TFRecords
written on the fly in the standard ImageNet layout; then cropped, resized to
224, flipped, normalized and batched, with and without RandAugment. The Model
Garden's reading of TFDS decodes, encodes and decodes again. It resizes
bilinearly and we bicubically, each the default of its recipe.

RandAugment, MixUp and CutMix are also measured alone: ours, the Model Garden's
and keras-cv's.

Rounds are interleaved, each pipeline is restarted in each round, and only one
runs at a time. A ratio is the median over rounds of the ratio within a round.
"""

import argparse
import gc
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import tensorflow as tf
from official.common import dataset_fn
from official.core import input_reader
from official.vision.configs import common as vision_config
from official.vision.configs import image_classification
from official.vision.dataloaders import classification_input, tfds_factory
from official.vision.ops import augment

from benchmarks import record
from classification import datasets, garden, mixing, randaugment
from classification.settings import Data

SIZE, CLASSES, LAYERS, MAGNITUDE = 224, 1000, 2, 9.0
BUFFER = 200

Pipeline = Callable[[], tf.data.Dataset]


def write_tfrecords(root: str, source: Data, shards: int = 4) -> str:
    """Writes `source` in the standard layout; returns a pattern."""
    opened = datasets.open_source(source, CLASSES)
    writers = [
        tf.io.TFRecordWriter(f"{root}/train-{k:05d}-of-{shards:05d}")
        for k in range(shards)
    ]
    for index, row in enumerate(opened.reader.in_order()):
        encoded, label, _ = opened.reader.read(*row)
        image = tf.train.BytesList(value=[encoded.numpy()])
        number = tf.train.Int64List(value=[int(label)])
        feature = {
            "image/encoded": tf.train.Feature(bytes_list=image),
            "image/class/label": tf.train.Feature(int64_list=number),
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        writers[index % shards].write(example.SerializeToString())
    for writer in writers:
        writer.close()
    return f"{root}/train-*"


def ours(config: Data) -> Pipeline:
    """Returns this project's pipeline."""
    source = datasets.open_source(config, CLASSES)
    return lambda: datasets.inputs(source, config)


def model_gardens(layers: int, batch: int, **location: str) -> Pipeline:
    """Returns the Model Garden's, built as in its classification task."""
    policy = None
    if layers:
        policy = vision_config.Augmentation(
            type="randaug",
            randaug=vision_config.RandAugment(
                num_layers=layers,
                magnitude=MAGNITUDE,
                translate_const=100,
            ),
        )
    params = image_classification.DataConfig(
        global_batch_size=batch,
        is_training=True,
        shuffle_buffer_size=BUFFER,
        aug_type=policy,
        **location,
    )
    if params.tfds_name:
        decoder = tfds_factory.get_classification_decoder(params.tfds_name)
    else:
        decoder = classification_input.Decoder()
    parser = classification_input.Parser(
        [SIZE, SIZE], CLASSES, aug_type=params.aug_type
    )
    reader = input_reader.InputReader(
        params,
        dataset_fn=dataset_fn.pick_dataset_fn(params.file_type),
        decoder_fn=decoder.decode,
        parser_fn=parser.parse_fn(params.is_training),
    )
    return reader.read


def pipelines(
    data_dir: str, root: str, batch: int
) -> dict[tuple[str, str], Pipeline]:
    """Returns pipelines by (what is read and done, whose it is)."""
    tfds = Data(
        dataset="imagenet2012",
        tfds_data_dir=data_dir,
        image_size=SIZE,
        global_batch_size=batch,
        shuffle_buffer_size=BUFFER,
    )
    pattern = write_tfrecords(root, tfds.replace(is_training=False))
    files = tfds.replace(dataset="tfrecords", path=pattern)
    places = {
        "TFDS": (
            tfds,
            {
                "tfds_name": "imagenet2012",
                "tfds_split": "train",
                "tfds_data_dir": data_dir,
            },
        ),
        "TFRecords": (files, {"input_path": pattern}),
    }
    found = {}
    for name, (config, location) in places.items():
        for layers, addition in ((0, ""), (LAYERS, " + RandAugment")):
            config = config.replace(randaugment_layers=layers)
            case = name + addition
            found[case, "ours"] = ours(config)
            found[case, "Model Garden"] = model_gardens(
                layers, batch, **location
            )
    return found


def augmenters(batch: int) -> dict[tuple[str, str], Pipeline]:
    """Returns RandAugment, MixUp and CutMix alone, on a repeated batch."""
    from keras_cv import layers as keras_cv

    pixels = tf.random.stateless_uniform(
        [batch, SIZE, SIZE, 3], [0, 0], 0, 256, tf.int32
    )
    pixels = tf.cast(pixels, tf.uint8)
    floats = tf.cast(pixels, tf.float32)
    labels = tf.range(batch)
    one_hot = tf.one_hot(labels, CLASSES)
    counter = tf.data.Dataset.range(2**62)
    images = tf.data.Dataset.from_tensor_slices(pixels).repeat()
    images = tf.data.Dataset.zip((images, counter))

    def each(function):
        return lambda: images.map(
            function, num_parallel_calls=tf.data.AUTOTUNE
        ).batch(batch)

    def whole(function):
        return lambda: counter.map(
            function, num_parallel_calls=tf.data.AUTOTUNE
        )

    theirs = augment.RandAugment(
        LAYERS, MAGNITUDE, cutout_const=40, translate_const=100
    )
    third = keras_cv.RandAugment((0, 255), LAYERS, MAGNITUDE / 10)
    found = {
        ("RandAugment", "ours"): each(
            lambda image, k: randaugment.rand_augment(
                image, LAYERS, MAGNITUDE, tf.stack([0, k])
            )
        ),
        ("RandAugment", "Model Garden"): each(
            lambda image, k: theirs.distort(image)
        ),
        ("RandAugment", "keras-cv"): whole(lambda k: third(floats)),
    }
    kinds = {"MixUp": (0.2, 0.0), "CutMix": (0.0, 1.0)}
    for name, alphas in kinds.items():
        found[name, "ours"] = whole(
            lambda k, alphas=alphas: mixing.mix(
                floats, labels, CLASSES, *alphas, tf.stack([0, k])
            )
        )
        found[name, "Model Garden"] = whole(
            lambda k, alphas=alphas: garden.mix(
                floats, labels, CLASSES, *alphas
            )
        )
        layer = getattr(keras_cv, name)(max(alphas))
        found[name, "keras-cv"] = whole(
            lambda k, layer=layer: layer({"images": floats, "labels": one_hot})
        )
    return found


def images_per_second(make: Pipeline, batch: int, batches: int) -> float:
    """Measures a restarted pipeline; its first batch is not counted."""
    iterator = iter(make())
    next(iterator)
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    seconds = time.perf_counter() - start
    # Otherwise its threads would fill buffers during the next pipeline.
    del iterator
    gc.collect()
    return batch * batches / seconds


def measure(
    contenders: dict[tuple[str, str], Pipeline],
    batch: int,
    batches: int,
    rounds: int,
) -> list[dict[str, str | float]]:
    """Returns one row per pipeline, with its ratio to the Model Garden's."""
    speeds: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for _ in range(rounds):
        for key, make in contenders.items():
            speeds[key].append(images_per_second(make, batch, batches))
    rows = []
    for (case, whose), mine in speeds.items():
        base = speeds[case, "Model Garden"]
        ratios = [a / b for a, b in zip(mine, base)]
        rows.append(
            {
                "case": case,
                "whose": whose,
                "images_per_second": round(statistics.median(mine), 1),
                "ratio_to_model_garden": round(statistics.median(ratios), 3),
                "lowest_ratio": round(min(ratios), 3),
                "highest_ratio": round(max(ratios), 3),
            }
        )
    return rows


def table(rows: list[dict[str, str | float]]) -> str:
    """Returns the rows as text."""
    lines = [f"{'case':26s}{'whose':14s}{'images/s':>9s}{'ratio':>7s}  range"]
    for row in rows:
        lines.append(
            f"{row['case']:26s}{row['whose']:14s}"
            f"{row['images_per_second']:9.0f}"
            f"{row['ratio_to_model_garden']:7.2f}"
            f"  {row['lowest_ratio']:.2f} to {row['highest_ratio']:.2f}"
        )
    lines.append(
        "ratio: to the Model Garden's of the same case; above 1: faster"
    )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints and records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--data_dir",
        required=True,
        help="the directory that contains imagenet2012/<version>/, of TFDS",
    )
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    parser.add_argument("--cases", nargs="+", help="cases (default: all)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    with tempfile.TemporaryDirectory() as root:
        contenders = pipelines(args.data_dir, root, args.batch)
        contenders |= augmenters(args.batch)
        if args.cases:
            chosen = contenders.items()
            contenders = {k: v for k, v in chosen if k[0] in args.cases}
        rows = measure(contenders, args.batch, args.batches, args.rounds)
    print(table(rows))
    record.finish(rows, args.json)


if __name__ == "__main__":
    main()
