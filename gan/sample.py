"""Draws a grid of samples: a class a column.

python -m gan.sample --checkpoint=runs/gan-digits --output=digits.png
python -m gan.sample --checkpoint=runs/gan-digits --truncation=0.5
"""

import os

from absl import app, flags

from evonorm_tf.training import flags as training_flags
from gan import restore, sampling

FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Draws what the flags ask for."""
    training_flags.quiet_logs()
    found = restore.restore(FLAGS.checkpoint, FLAGS.params_override)
    sampler = sampling.Sampler(
        found.generator, found.params.task, found.strategy
    )
    sampler.settle()
    path = FLAGS.output
    if not path:
        name = f"grid-{found.step:07d}-truncation-{FLAGS.truncation:g}.png"
        path = os.path.join(found.model_dir, "samples", name)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    sampling.write_png(sampler.grid(FLAGS.rows, FLAGS.truncation), path)
    print(path)


if __name__ == "__main__":
    flags.DEFINE_string(
        "checkpoint", None, "A run's directory, or one of its checkpoints."
    )
    flags.DEFINE_string(
        "output", "", "PNG to write; a name in the run's samples/ when empty."
    )
    flags.DEFINE_integer("rows", 8, "Images of each class.", lower_bound=1)
    flags.DEFINE_float(
        "truncation",
        0.0,
        "Latents are normals within 2 deviations times this; 0: plain normals.",
        lower_bound=0.0,
    )
    flags.DEFINE_string(
        "params_override", None, "Laid over the run's config: a.b=c,..."
    )
    flags.mark_flag_as_required("checkpoint")
    app.run(main)
