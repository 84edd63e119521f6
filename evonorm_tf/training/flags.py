"""The command line that every head shares."""

from absl import flags, logging

from evonorm_tf.training import config

MODES = ("train_and_eval", "train", "eval")


def define_flags(
    experiment: str | None = None, model_dir: str | None = None
) -> None:
    """Defines the flags; a head's `train.py` calls this once.

    Args:
      experiment: what runs when none is named; without it, one must be.
      model_dir: where to, likewise.
    """
    flags.DEFINE_string(
        "experiment", experiment, "Name of a registered experiment."
    )
    flags.DEFINE_multi_string(
        "config_file",
        [],
        "YAML file of overrides; repeat it to lay one over another.",
    )
    flags.DEFINE_string(
        "norm_act",
        None,
        "Normalization-activation layer, by its catalog name (evonorm_s0, "
        "bn_relu, ...). Sets task.model.norm_act.name.",
    )
    flags.DEFINE_string(
        "params_override",
        None,
        "Overrides laid over all others: task.train_data.seed=1,... or a "
        "YAML string or file.",
    )
    flags.DEFINE_enum("mode", "train_and_eval", MODES, "What to do.")
    flags.DEFINE_string(
        "model_dir", model_dir, "Where checkpoints, metrics and config go."
    )
    flags.DEFINE_string("tpu", None, "TPU name, or 'local'.")
    flags.DEFINE_bool("debug", False, "Shrink the experiment to a few seconds.")
    flags.mark_flags_as_required(["experiment", "model_dir"])


def parse() -> config.Experiment:
    """The experiment that the command line asks for, and quieter logs."""
    quiet_logs()
    given = flags.FLAGS
    return config.parse(
        given.experiment,
        given.config_file,
        given.norm_act,
        given.params_override,
        given.tpu,
    )


def quiet_logs() -> None:
    """Leaves the Model Garden's log lines out, unless --verbosity asks."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
