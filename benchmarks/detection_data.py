"""Images per second of converting COCO to TFRecords, vs. the Model Garden.

    python -m benchmarks.detection_data [--data_dir DIR] [--json FILE]

DIR contains coco_mini (real COCO images with their annotations). Both convert
the training images with masks to 4 files. The Model Garden's converter runs as
in its command, but without its processes, which hold all examples until the
last is finished; ours runs with one thread and with one per core. Rounds are
interleaved, the first is not counted, and a ratio is the median over rounds of
the ratio within a round.
"""

import argparse
import io
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import tensorflow as tf
from absl import flags
from official.vision.data import create_coco_tf_record

from benchmarks import record
from detection import convert
from training import progress

_HERE = pathlib.Path(__file__).resolve().parents[2]
_SHARDS = 4


def _garden(annotations: str, images: str, folder: str) -> None:
    flags.FLAGS(["benchmark", "--num_processes=0"])
    create_coco_tf_record._create_tf_record_from_coco_annotations(
        images_info_file=annotations,
        image_dirs=[images],
        output_path=os.path.join(folder, "garden"),
        num_shards=_SHARDS,
        object_annotations_file=annotations,
        include_masks=True,
    )


def _ours(workers: int) -> Callable[[str, str, str], None]:
    def run(annotations: str, images: str, folder: str) -> None:
        output = os.path.join(folder, "ours")
        job = convert.Conversion(
            annotations, images, output, _SHARDS, workers=workers
        )
        display = progress.Display("convert", io.StringIO())
        convert.convert(job, display, overwrite=True)

    return run


def contenders() -> dict[str, Callable[[str, str, str], None]]:
    """Returns the converters by name; the first is the reference."""
    found = {"model_garden": _garden, "ours, 1 thread": _ours(1)}
    if (cores := os.cpu_count() or 1) > 1:
        found[f"ours, {cores} threads"] = _ours(cores)
    return found


def measure(annotations: str, images: str, rounds: int) -> list[dict]:
    """Measures the seconds of each in each round; returns a row for each."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders()}
    sizes = {}
    for _ in range(rounds + 1):
        for name, run in contenders().items():
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                run(annotations, images, folder)
                seconds[name].append(time.perf_counter() - start)
                sizes[name] = sum(
                    path.stat().st_size
                    for path in pathlib.Path(folder).rglob("*.tfrecord")
                )
    count = len(os.listdir(images))
    first = seconds["model_garden"][1:]
    rows = []
    for name, found in seconds.items():
        ratios = [one / other for one, other in zip(first, found[1:])]
        rows.append(
            {
                "converter": name,
                "images": count,
                "images_per_second": count / statistics.median(found[1:]),
                "times_as_fast": statistics.median(ratios),
                "megabytes_written": sizes[name] / 2**20,
            }
        )
    return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = _HERE / "shared" / "data"
    parser.add_argument("--data_dir", type=pathlib.Path, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    given = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    data = given.data_dir / "coco_mini"
    annotations = str(data / "annotations" / "instances_train2017.json")
    rows = measure(annotations, str(data / "train2017"), given.rounds)
    header = ("images/s", "times as fast", "written")
    print(f"{'':18}" + "".join(f"{name:>15}" for name in header))
    for row in rows:
        print(
            f"{row['converter']:18}{row['images_per_second']:15.1f}"
            f"{row['times_as_fast']:15.2f}"
            f"{row['megabytes_written']:12.1f} MB"
        )
    record.finish(rows, given.json)


if __name__ == "__main__":
    main()
