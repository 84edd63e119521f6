"""The command line that every head shares.

Later settings override earlier ones, in this order: the experiment's own
values, --row, each --config_file, --norm_act, --params_override. A row
combined with another experiment or layer is an error.
"""

from absl import flags

from evonorm_tf import files
from evonorm_tf.preflight import tpu
from training import commands, config, driver, report, strategy

RUNS = "runs"  # The folder of runs for which no folder is given.
MODES = ("train_and_eval", "train", "eval", "eval_best")


def define_flags(
    experiment: str | None = None, model_dir: str | None = None
) -> None:
    """Defines the flags; a head's `train.py` calls this once.

    Args:
      experiment: the default experiment; if empty, one is required.
      model_dir: its folder, likewise, in runs/; a row's is runs/ROW. See
        `folder`.
    """
    flags.DEFINE_string(
        "experiment", experiment, "Name of a registered experiment."
    )
    flags.DEFINE_string(
        "row",
        None,
        "Row of a table of results, which defines experiment, recipe and "
        "layer. `python -m configs.tables` lists the rows.",
    )
    flags.DEFINE_multi_string(
        "config_file",
        [],
        "YAML file of overrides; may be repeated, later files take precedence.",
    )
    flags.DEFINE_string(
        "norm_act",
        None,
        "Normalization-activation layer by its catalog name (evonorm_s0, "
        "bn_relu, ...). Sets task.model.norm_act.name.",
    )
    flags.DEFINE_multi_string(
        "params_override",
        [],
        "Overrides that take precedence over all others: "
        "task.train_data.seed=1,... or a YAML string or file; may be repeated, "
        "with other keys.",
    )
    flags.DEFINE_enum(
        "mode", "train_and_eval", MODES, "Whether to train, evaluate or both."
    )
    flags.DEFINE_string(
        "model_dir",
        model_dir,
        "Folder for checkpoints, metrics and config; for a row, runs/ROW if "
        "left out. With --debug, runs/debug/... if left out.",
    )
    flags.DEFINE_string("tpu", None, "Name of a TPU, or 'local'.")
    flags.DEFINE_bool("debug", False, "Shrink the experiment to a few seconds.")
    flags.DEFINE_string(
        "preflight",
        None,
        "Compile the step for this TPU topology, such as v5e:2x2, without a "
        "TPU, and report the result instead of training.",
    )
    flags.DEFINE_string(
        "preflight_json", None, "File for the preflight's report as JSON."
    )
    flags.register_multi_flags_validator(
        ["experiment", "row"],
        lambda given: given["experiment"] or given["row"],
        "give --row (`python -m configs.tables` lists them) or --experiment",
    )

    def one(given):
        wanted = flags.FLAGS["model_dir"].present and given["model_dir"]
        if given["preflight"]:
            return not wanted
        # The default folder is that of the default experiment.
        usual = model_dir and given["experiment"] == experiment
        return bool(wanted or given["row"] or usual)

    flags.register_multi_flags_validator(
        ["model_dir", "preflight", "row", "experiment"],
        one,
        "give one of --model_dir, --preflight",
    )
    flags.register_multi_flags_validator(
        ["preflight_json", "preflight"],
        lambda given: given["preflight"] or not given["preflight_json"],
        "--preflight_json requires --preflight",
    )


def train(
    head: driver.Head,
    tables: report.HeadTables,
    experiment: str | None = None,
    model_dir: str | None = None,
) -> None:
    """Runs the command `python -m HEAD.train`.

    Args:
      head: the head to train.
      tables: the head's, for --row.
      experiment: see `define_flags`.
      model_dir: see `define_flags`.
    """
    define_flags(experiment, model_dir)
    commands.run(lambda _: run(head, tables))


def run(head: driver.Head, tables: report.HeadTables) -> None:
    """Runs the command that the flags request; see `train`."""
    given = flags.FLAGS
    params = parse(tables)
    # Workers and logical CPUs must precede TensorFlow's first operation.
    replicas = strategy.build(params.runtime).num_replicas_in_sync
    if given.preflight:
        replicas = tpu.chips(given.preflight)
    if given.debug:
        print(head.shrink(params, replicas))
    if given.preflight:
        head.preflight(params, given.preflight, given.preflight_json)
        return
    driver.run(params, head, given.mode, folder())


def folder() -> str:
    """Returns the run's folder: --model_dir, or the experiment's or row's.

    With --debug, the latter are in runs/debug: in its real folder, a debug run
    and the full one would reject each other.
    """
    given = flags.FLAGS
    if given["model_dir"].present:
        return given.model_dir
    usual = files.join(RUNS, given.row) if given.row else given.model_dir
    if not given.debug:
        return usual
    return files.join(RUNS, "debug", usual.removeprefix(f"{RUNS}/"))


def parse(tables: report.HeadTables) -> config.Experiment:
    """Returns the experiment from the command line.

    Args:
      tables: the head's, for --row.

    Raises:
      ValueError: see `config.parse`; if the row is unknown.
    """
    given = flags.FLAGS
    row, experiment = None, given.experiment
    if given.row:
        row = tables.find(given.row)
        if not given["experiment"].present:  # A default, not a request.
            experiment = None
    return config.parse(
        experiment,
        given.config_file,
        given.norm_act,
        given.params_override,
        given.tpu,
        row,
    )
