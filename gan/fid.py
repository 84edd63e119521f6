r"""Distances between two sets of images.

    python -m gan.fid REAL MADE --path=classify_image_graph_def.pb
    python -m gan.fid tfds:cifar10/test samples.npz --tfds_data_dir=DIR \
        --extractor=classifier --path=runs/gan-cifar10/classifier.keras

Each is a folder of images of one size, an .npz of them, or tfds:NAME/SPLIT, and
both have the same size. The first is the reference, and can be the file of
statistics that --keep wrote for it. Prints the metrics, their provenance, and
what was skipped in the folders.
"""

from absl import app, flags

from gan import experiment, sets
from gan.metrics import extractor, measure, reference
from training import commands

FLAGS = flags.FLAGS


def compare(
    real: str,
    made: str,
    extract: extractor.Extractor,
    settings: experiment.Evaluation,
    tfds_data_dir: str = "",
    keep: str = "",
) -> tuple[dict[str, float], str]:
    """Compares two sets of images.

    Args:
      real: the reference, as in the module's docstring.
      made: the other set.
      extract: the extractor.
      settings: splits and blocks.
      tfds_data_dir: the directory with TFDS datasets.
      keep: file for the reference's statistics; empty for none.

    Returns:
      The metrics and a description of their provenance.

    Raises:
      ValueError: if sets cannot be read or measured, have different sizes, or
        the reference has another provenance.
    """
    other = _open(made, tfds_data_dir)
    measure.require_enough(other.count, extract, settings, other.name)

    def statistics(of: sets.Set, seed: int = 0) -> measure.Statistics:
        return measure.measure(
            of.batches(), extract, settings, of.name, of.count, seed=seed
        )

    # A file of statistics, or of images.
    if real.endswith(".npz") and reference.holds_statistics(real):
        if keep:
            raise ValueError(
                "REAL is already a file of statistics, so there is nothing to "
                f"keep; leave --keep out. Received: {real!r}, keep={keep!r}"
            )
        one = reference.load(real)
        # Its own description of the images is used; all else must agree.
        wanted = measure.facts("", 0, extract, settings)
        wanted |= {key: one.facts[key] for key in ("images", "count")}
        reference.require_same(one.facts, wanted, real)
    else:
        images = _open(real, tfds_data_dir, other.size[0])
        if images.size != other.size:
            raise ValueError(
                "Both sets must have images of one size, because resizing "
                "affects the metrics. Resize one of them first. Received: "
                f"[height, width] = {list(images.size)} of {images.name}, "
                f"{list(other.size)} of {other.name}"
            )
        measure.require_enough(images.count, extract, settings, images.name)
        facts = measure.facts(images.name, images.count, extract, settings)
        if keep:
            one = reference.cached(keep, facts, lambda: statistics(images))
        else:
            one = statistics(images)
    two = statistics(other, seed=1)
    found = measure.compare(one, two, extract, settings)
    return found, measure.about(one, two, settings)


def _open(place: str, tfds_data_dir: str, *side: int) -> sets.Set:
    found = sets.open_set(place, tfds_data_dir, *side)
    for note in found.notes:
        print(f"{place}: {note}")
    return found


def main(arguments: list[str]) -> None:
    """Compares the sets that the command line names."""
    if len(arguments) != 3:
        raise app.UsageError("pass two sets of images: gan.fid REAL MADE")
    settings = experiment.Evaluation(
        extractor=FLAGS.extractor,
        path=FLAGS.path,
        sha256=FLAGS.sha256,
        splits=FLAGS.splits,
        kernel_block=FLAGS.kernel_block,
        kernel_blocks=FLAGS.kernel_blocks,
    )
    extract = measure.open_extractor(settings)
    found, about = compare(
        *arguments[1:], extract, settings, FLAGS.tfds_data_dir, FLAGS.keep
    )
    for name, value in found.items():
        print(f"{name:32} {value:12.5f}")
    print(about)


if __name__ == "__main__":
    flags.DEFINE_enum(
        "extractor",
        "inception",
        ["inception", "classifier"],
        "The 2015 Inception network, or any classifier saved by tf_keras.",
    )
    flags.DEFINE_string("path", "", "The extractor's file or folder.")
    flags.DEFINE_string(
        "sha256", "", "What the extractor's hash must be, or begin with."
    )
    flags.DEFINE_string("tfds_data_dir", "", "Folder of the TFDS datasets.")
    flags.DEFINE_string(
        "keep", "", "File for the reference's statistics, written or reused."
    )
    flags.DEFINE_integer(
        "splits", 10, "Number of splits for the class score.", lower_bound=1
    )
    flags.DEFINE_integer(
        "kernel_block",
        1000,
        "Images per block of the kernel distance; 0 for none.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "kernel_blocks", 10, "Maximum number of blocks.", lower_bound=1
    )
    commands.run(main, words=True)
