"""Small data sets on disk, of the digits inside scikit-learn."""

import io
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from training.images import sources


def example(encoded, label):
    """A record in the standard ImageNet layout."""
    features = {
        "image/encoded": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[encoded])
        ),
        "image/class/label": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[label])
        ),
    }
    record = tf.train.Example(features=tf.train.Features(feature=features))
    return record.SerializeToString()


def write_tfrecords(root, counts=(11, 5, 8), split="train", label_offset=0):
    """Files of so many records each; returns their bytes and labels."""
    files, labels = sources.jpeg_digits("train")
    begin = 0
    for shard, count in enumerate(counts):
        path = f"{root}/{split}-{shard:05d}-of-{len(counts):05d}"
        with tf.io.TFRecordWriter(path) as writer:
            for index in range(begin, begin + count):
                label = int(labels[index]) + label_offset
                writer.write(example(files[index], label))
        begin += count
    return files[:begin], labels[:begin]


def damage(path):
    """Changes a byte of a TFRecord file's last record."""
    content = bytearray(pathlib.Path(path).read_bytes())
    content[-100] ^= 1
    pathlib.Path(path).write_bytes(content)


def write_folder(root, each=4):
    """Three classes, the last of PNGs; returns the number of images."""
    rng = np.random.default_rng(0)
    for label, suffix in enumerate((".jpg", ".JPEG", ".png")):
        folder = pathlib.Path(root) / f"class_{label}"
        folder.mkdir(parents=True)
        for index in range(each):
            save(folder / f"{index}{suffix}", rng, 40 + 7 * index)
        (folder / "notes.txt").write_text("no image")
    return 3 * each


def save(path, rng, side=40):
    """A random image, smooth enough for a JPEG; returns its pixels."""
    coarse = rng.integers(0, 256, (5, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize((side + 8, side))
    image.save(path)
    return np.asarray(image)


def encoded(image, kind, **options):
    """A Pillow image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tfds(folder):
    """Writes a TFDS dataset of 4x4 images, five per split, without building it.

    Returns the path of the test split's only file.
    """
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(4, 4, 3)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
    )
    home = folder / "own" / "1.0.0"
    home.mkdir(parents=True)
    paths, splits = {}, []
    for split in ("train", "test"):
        path = paths[split] = home / f"own-{split}.tfrecord-00000-of-00001"
        size = 0
        with tf.io.TFRecordWriter(str(path)) as file:
            for index in range(5):
                pixels = np.full([4, 4, 3], index, np.uint8)
                row = {"image": pixels, "label": index % 2}
                content = features.serialize_example(
                    features.encode_example(row)
                )
                file.write(content)
                size += len(content)
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[5],
                num_bytes=size,
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=home,
                    dataset_name="own",
                    split=split,
                    filetype_suffix="tfrecord",
                ),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(home), features=features, split_infos=splits
    )
    return paths["test"]
