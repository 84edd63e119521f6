"""The command line that every head shares.

What is laid over what: the experiment's own values, --row, each
--config_file, --norm_act, --params_override. A row together with another
experiment or layer is an error.
"""

from collections.abc import Callable

from absl import flags, logging

from training import config

MODES = ("train_and_eval", "train", "eval", "eval_best")


def define_flags(
    experiment: str | None = None,
    model_dir: str | None = None,
    rows: bool = False,
    steps: bool = False,
) -> None:
    """Defines the flags; a head's `train.py` calls this once.

    Args:
      experiment: what runs when none is named; without it, one must be.
      model_dir: where to, likewise.
      rows: whether the head's experiments are rows of `configs.tables`.
      steps: whether the head takes --preflight.
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
    if steps:
        _define_step_flags(model_dir)
    elif model_dir is None:
        flags.mark_flag_as_required("model_dir")
    if not rows:
        flags.mark_flag_as_required("experiment")
        return
    flags.DEFINE_string(
        "row",
        None,
        "Row of a table of results: its experiment, recipe and layer. "
        "`python -m configs.tables` lists them.",
    )
    flags.register_multi_flags_validator(
        ["experiment", "row"],
        lambda given: given["experiment"] or given["row"],
        "give --row or --experiment",
    )


def _define_step_flags(model_dir: str | None) -> None:
    """Flags of what is done with a training step instead of a run."""
    flags.DEFINE_string(
        "preflight",
        None,
        "Instead of training: compile the step for this TPU topology, "
        "v5e:2x2 for example, without a TPU, and report.",
    )
    flags.DEFINE_string("preflight_json", None, "Write the report here too.")

    def one(given):
        wishes = [
            name
            for name, value in given.items()
            if value is not None and (name, value) != ("model_dir", model_dir)
        ]
        return len(wishes) == 1 or (not wishes and model_dir is not None)

    flags.register_multi_flags_validator(
        ["model_dir", "preflight"], one, "give one of --model_dir, --preflight"
    )
    flags.register_multi_flags_validator(
        ["preflight_json", "preflight"],
        lambda given: given["preflight"] or not given["preflight_json"],
        "--preflight_json goes with --preflight",
    )


def parse(
    find_row: Callable[[str], config.Row] | None = None,
) -> config.Experiment:
    """The experiment that the command line asks for, and quieter logs.

    Args:
      find_row: the row of an id, for a head that defined `--row`.

    Raises:
      ValueError, TypeError: see `config.parse`; an unknown row.
    """
    quiet_logs()
    given = flags.FLAGS
    row, experiment = None, given.experiment
    if find_row is not None and given.row:
        row = find_row(given.row)
        if not given["experiment"].present:  # A head's default, not a wish.
            experiment = None
    return config.parse(
        experiment,
        given.config_file,
        given.norm_act,
        given.params_override,
        given.tpu,
        row,
    )


def quiet_logs() -> None:
    """Leaves the Model Garden's log lines out, unless --verbosity asks."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
