"""How far two sets of images are from each other.

    python -m gan.fid REAL MADE --path=classify_image_graph_def.pb
    python -m gan.fid tfds:cifar10/test samples.npz --tfds_data_dir=DIR \
        --extractor=classifier --path=runs/gan-cifar10/classifier.keras

Each is a folder of images of one size, an .npz of them, or tfds:NAME/SPLIT.
The first is the reference, and may be the file of statistics that --keep
wrote of it. Prints the numbers, how they were made, and what of the folders
was left out.
"""

from absl import app, flags

from gan import experiment, sets
from gan.metrics import extractor, measure, reference
from training import commands
from training import flags as training_flags

FLAGS = flags.FLAGS


def compare(
    real: str,
    made: str,
    extract: extractor.Extractor,
    settings: experiment.Evaluation,
    tfds_data_dir: str = "",
    keep: str = "",
) -> tuple[dict[str, float], str]:
    """Measures two sets of images.

    Args:
      real: the reference, as the module's docstring says.
      made: the other.
      extract: what they are seen through.
      settings: splits and blocks.
      tfds_data_dir: the directory that holds TFDS sets.
      keep: file for the reference's statistics; none when empty.

    Returns:
      The numbers, and how they were made.

    Raises:
      ValueError: sets that cannot be read or measured, a reference that was
        made in another way.
    """
    other = _open(made, tfds_data_dir)
    measure.require_enough(other.count, extract, settings, other.name)

    def statistics(of: sets.Set) -> measure.Statistics:
        return measure.measure(
            of.batches(), extract, settings, of.name, of.count
        )

    if _is_reference(real):
        one = reference.load(real)
        # The images are what it says they are; all else must agree.
        wanted = measure.facts("", 0, extract, settings)
        wanted |= {key: one.facts[key] for key in ("images", "count")}
        reference.require_same(one.facts, wanted, real)
    else:
        images = _open(real, tfds_data_dir)
        measure.require_enough(images.count, extract, settings, images.name)
        facts = measure.facts(images.name, images.count, extract, settings)
        if keep:
            one = reference.cached(keep, facts, lambda: statistics(images))
        else:
            one = statistics(images)
    two = statistics(other)
    found = measure.compare(one, two, extract, settings)
    return found, measure.about(one, two, settings)


def _open(place: str, tfds_data_dir: str) -> sets.Set:
    found = sets.open_set(place, tfds_data_dir)
    for note in found.notes:
        print(f"{place}: {note}")
    return found


def _is_reference(place: str) -> bool:
    """Whether it is statistics: as opposed to a set of images."""
    return place.endswith(".npz") and reference.holds_statistics(place)


def main(arguments: list[str]) -> None:
    """Compares what the command line names."""
    training_flags.quiet_logs()
    if len(arguments) != 3:
        raise app.UsageError("give two sets of images: gan.fid REAL MADE")
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
        "The 2015 Inception network, or any classifier that tf_keras saved.",
    )
    flags.DEFINE_string("path", "", "The extractor's file or folder.")
    flags.DEFINE_string(
        "sha256", "", "What the extractor's hash must be, or begin with."
    )
    flags.DEFINE_string("tfds_data_dir", "", "Where TFDS sets are.")
    flags.DEFINE_string(
        "keep", "", "File of the reference's statistics, made or used."
    )
    flags.DEFINE_integer("splits", 10, "Of the score.", lower_bound=1)
    flags.DEFINE_integer(
        "kernel_block", 1000, "Images a block of the kernel distance; 0: none."
    )
    flags.DEFINE_integer("kernel_blocks", 10, "Blocks, at most.")
    commands.run(main)
