"""Draws samples of a trained generator.

    python -m gan.sample --checkpoint=runs/gan-digits --output=digits.png
    python -m gan.sample --checkpoint=runs/gan-digits --truncation=0.5
    python -m gan.sample --checkpoint=runs/gan-digits --kind=truncation
    python -m gan.sample --checkpoint=runs/gan-digits --kind=interpolation

A grid has one class per column, a truncation sweep one truncation per row, and
an interpolation one class per row, from one latent to another.
"""

from absl import flags

from evonorm_tf import files
from gan import evaluation, restore, sampling
from training import commands

FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Draws as the flags say."""
    found = restore.restore(FLAGS.checkpoint, FLAGS.params_override)
    sampler = sampling.Sampler(
        found.generator, found.params.task, found.strategy
    )
    sampler.settle()
    if FLAGS.kind == "grid":
        name = f"grid-{found.step:07d}-truncation-{FLAGS.truncation:g}.png"
        picture = sampler.grid(FLAGS.rows, FLAGS.truncation)
    elif FLAGS.kind == "truncation":
        name = f"sample-truncation-{found.step:07d}.png"
        evaluation.check(found.params.task.evaluation)
        picture = sampler.truncation(found.params.task.evaluation.truncations)
    else:
        name = f"sample-interpolation-{found.step:07d}.png"
        picture = sampler.interpolation()
    path = FLAGS.output or found.run.path(evaluation.SAMPLES, name)
    path = files.normalize(path)
    sampling.write_png(picture, path)
    print(path)


if __name__ == "__main__":
    flags.DEFINE_string(
        "checkpoint", None, "A run's folder, or one of its checkpoints."
    )
    flags.DEFINE_string(
        "output", "", "PNG to write; empty for a name in the run's samples/."
    )
    flags.DEFINE_enum(
        "kind", "grid", ["grid", "truncation", "interpolation"], "What to draw."
    )
    flags.DEFINE_integer(
        "rows", 8, "Images of each class in a grid.", lower_bound=1
    )
    flags.DEFINE_float(
        "truncation",
        0.0,
        "For a grid: latents are normals truncated at 2 standard deviations "
        "times this, at most 1; 0 for plain normals. A sweep uses "
        "task.evaluation.truncations.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_string(
        "params_override", None, "Overrides of the run's config: a.b=c,..."
    )
    flags.mark_flag_as_required("checkpoint")
    commands.run(main)
