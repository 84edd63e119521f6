r"""Evaluates a trained generator.

    python -m gan.evaluate --checkpoint=runs/debug/gan-digits
    python -m gan.evaluate --checkpoint=runs/debug/gan-digits/ckpt-300 \
        --params_override=task.evaluation.samples=5000

Prints the metrics with their provenance, and writes both to a separate file in
the run's folder; evaluation.json has the run's own evaluations.
"""

from absl import flags

from gan import evaluation, restore
from training import commands
from training.images import errors

FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Evaluates the checkpoint that the flags name."""
    found = restore.restore(FLAGS.checkpoint, FLAGS.params_override)
    evaluation.check(found.params.task.evaluation)
    evaluator = evaluation.Evaluator(
        found.params,
        found.generator,
        found.strategy,
        found.run,
        lambda: found.step,
        apart=True,
    )
    with errors.readable("gan", lambda: f"Received: {FLAGS.checkpoint!r}"):
        metrics = evaluator.evaluate(-1)
    print(f"{found.params.task.model.norm_act.name}, step {found.step}")
    for name, value in metrics.items():
        print(f"  {name:24} {value:10.4f}")
    print(evaluator.about)
    print(evaluator.result_file)


if __name__ == "__main__":
    flags.DEFINE_string(
        "checkpoint", None, "A run's folder, or one of its checkpoints."
    )
    flags.DEFINE_multi_string(
        "params_override",
        [],
        "Overrides of the run's config: a.b=c,...; may be repeated.",
    )
    flags.mark_flag_as_required("checkpoint")
    commands.run(main)
