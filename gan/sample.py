"""Draws samples of a trained generator.

    python -m gan.sample --checkpoint=runs/debug/gan-digits --output=digits.png
    python -m gan.sample --checkpoint=runs/debug/gan-digits --truncation=0.5
    python -m gan.sample --checkpoint=runs/debug/gan-digits --kind=truncation
    python -m gan.sample --checkpoint=runs/debug/gan-digits --kind=interpolation

A grid has one class per column, a truncation sweep one truncation per row, and
an interpolation one class per row, from one latent to another.
"""

from absl import flags

from evonorm_tf import files
from gan import evaluation, restore, sampling
from gan.metrics import reference
from training import commands

FLAGS = flags.FLAGS
KINDS = ("grid", "truncation", "interpolation")


def draw(
    found: restore.Restored,
    kind: str,
    rows: int | None = None,
    truncation: float | None = None,
    output: str = "",
) -> str:
    """Draws samples of a run; returns the path of the picture.

    Args:
      found: the run.
      kind: one of `KINDS`.
      rows: for a grid: images of each class; None for 8.
      truncation: for a grid, see `latent.truncated`; None for 0.
      output: the PNG; empty for a name in the run's samples/ that differs for
        other settings.

    Raises:
      ValueError: if a setting of a grid is given for another kind, or is
        invalid.
    """
    given = {"rows": rows, "truncation": truncation}
    if kind != "grid" and any(one is not None for one in given.values()):
        raise ValueError(
            "Rows and truncation are those of a grid. A sweep has a row for "
            "each of task.evaluation.truncations, which --params_override "
            f"sets. Received: kind={kind!r}, {given}"
        )
    task = found.params.task
    sampler = sampling.Sampler(found.generator, task, found.strategy)
    settings = {"images": sampler.about()}
    if kind == "grid":
        rows, truncation = 8 if rows is None else rows, truncation or 0.0
        settings |= {"rows": rows, "truncation": truncation}
    elif kind == "truncation":
        evaluation.check(task.evaluation)
        settings["truncations"] = task.evaluation.truncations
    sampler.settle()
    if kind == "grid":
        picture = sampler.grid(rows, truncation)
    elif kind == "truncation":
        picture = sampler.truncation(task.evaluation.truncations)
    else:
        picture = sampler.interpolation()
    mark = reference.digest(settings)[:12]
    name = f"sample-{kind}-{found.step:07d}-{mark}.png"
    path = files.normalize(output or found.run.path(evaluation.SAMPLES, name))
    sampling.write_png(picture, path)
    return path


def main(_: list[str]) -> None:
    """Draws as the flags say."""
    found = restore.restore(FLAGS.checkpoint, FLAGS.params_override)
    print(draw(found, FLAGS.kind, FLAGS.rows, FLAGS.truncation, FLAGS.output))


if __name__ == "__main__":
    flags.DEFINE_string(
        "checkpoint", None, "A run's folder, or one of its checkpoints."
    )
    flags.DEFINE_string(
        "output",
        "",
        "PNG to write; empty for a name in the run's samples/ that differs for "
        "other settings.",
    )
    flags.DEFINE_enum("kind", "grid", KINDS, "What to draw.")
    flags.DEFINE_integer(
        "rows",
        None,
        "For a grid: images of each class, 8 if left out.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "truncation",
        None,
        "For a grid: latents are normals truncated at 2 standard deviations "
        "times this, at most 1; plain normals if 0 or left out. A sweep uses "
        "task.evaluation.truncations.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_multi_string(
        "params_override",
        [],
        "Overrides of the run's config: a.b=c,...; may be repeated.",
    )
    flags.mark_flag_as_required("checkpoint")
    commands.run(main)
