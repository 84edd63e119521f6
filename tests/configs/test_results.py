"""Results: a run fills its own row and no other, or is shown apart."""

import json
import pathlib

import pytest
import tensorflow as tf
import yaml

from classification import experiment
from classification.tables import TABLES
from configs import tables
from training import config, runs, same_experiment, schedule, strategy
from training.report import page, results
from training.report.tables import Metric

RECORDED = pathlib.Path(__file__).parents[2] / "docs/runs/cifar10-small-batch"
ROW = "cifar10/resnet20-b4/evonorm_s0"
TOP1 = Metric("top-1 %", "accuracy", 100.0)
SWEEP = TABLES.tables["cifar_batch_sizes"].title


def _write(folder, accuracy, row=ROW, override="", **record):
    """A run's folder as training leaves it, but for its checkpoints."""
    recipe = tables.find(row).recipe
    params = config.parse(row=tables.find(row), params_override=override)
    batch = params.task.train_data.global_batch_size
    experiment.fill_in(params.task)
    schedule.resolve(
        params.trainer, params.task.schedule, recipe.examples, batch
    )
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params.as_dict()))
    step = record.get("step", params.trainer.train_steps)
    lines = [
        {"kind": "train", "step": step, "training_loss": 1.0},
        {"kind": "eval", "step": step, "accuracy": accuracy},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + record.get("half", ""))
    share = record.get("share", batch)
    devices = f"Strategy, batch {batch} ({share} a replica)"
    about = {"devices": devices, "machine": "a machine"}
    (folder / "run.json").write_text(json.dumps(about))


def _sorted(folder):
    return results.sort(results.read([str(folder)]), tables.ROWS)


def _seed(seed):
    return f"task.seed={seed},task.train_data.seed={seed}"


def test_seeds_of_a_row_fill_it_with_mean_spread_and_count(tmp_path):
    for seed, accuracy in enumerate((0.60, 0.61, 0.62)):
        _write(tmp_path / f"seed{seed}", accuracy, override=_seed(seed))
    found = _sorted(tmp_path)
    assert list(found.by_row) == [ROW]
    assert not found.trials and not found.unfinished and not found.unknown
    # The sample's standard deviation of 60, 61, 62 is 1.
    assert page.ours(found.by_row[ROW], TOP1) == "61.0+-1.0 (3)"
    text = page.markdown(tables.TABLES, found, str(tmp_path))
    _, sweep = text.split(SWEEP, 1)
    line = next(x for x in sweep.splitlines() if x.startswith("| evonorm_s0"))
    assert (
        line == "| evonorm_s0 | not run | not run | not run | 61.0+-1.0 (3) |"
    )
    assert "- ours, 4: 25000 steps; float32; Strategy, batch 4" in text
    assert "| bn_relu | 76.1 / not run |" in text


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("task.schedule.epochs=1", "task.schedule.epochs"),
        ("trainer.train_steps=100", "trainer.train_steps"),
        (
            "task.train_data.global_batch_size=5",
            "task.train_data.global_batch_size",
        ),
        # What no recipe names, and decides all the same.
        ("task.label_smoothing=0.3", "task.label_smoothing"),
        ("task.init_checkpoint=there", "task.init_checkpoint"),
        (
            "task.model.norm_act.momentum=0.5",
            "task.model.norm_act.momentum",
        ),
        (
            "trainer.optimizer_config.optimizer.type=rmsprop",
            "trainer.optimizer_config.optimizer.type",
        ),
        (
            "trainer.optimizer_config.optimizer.sgd.momentum=0.8",
            "trainer.optimizer_config.optimizer.sgd.momentum",
        ),
        (
            # The class's default: no older record, but an average.
            "trainer.optimizer_config.ema.average_decay=0.99",
            "trainer.optimizer_config.ema.average_decay",
        ),
        (
            "trainer.optimizer_config.learning_rate.type=constant",
            "trainer.optimizer_config.learning_rate.type",
        ),
        *(
            # Compared as those above.
            pytest.param(f"{key}={value}", key, marks=pytest.mark.slow)
            for key, value in (
                ("task.model.width", 0.5),
                ("task.weight_decay", 0),
                ("trainer.validation_steps", 2),
                ("task.train_data.augmentation", "none"),
                ("task.train_data.mixup_alpha", 0.4),
                ("task.validation_data.split", "train"),
            )
        ),
    ],
)
def test_a_run_at_other_settings_is_a_trial_and_says_which(
    tmp_path, override, key
):
    _write(tmp_path / "run", 0.7, override=override)
    found = _sorted(tmp_path)
    assert not found.by_row
    [(_, row, different)] = found.trials
    assert row == ROW
    assert key in different
    text = page.markdown(tables.TABLES, found, str(tmp_path))
    assert "## Trials" in text and key in text
    assert "70.0 (1)" not in text


def test_a_rows_average_is_missed_where_a_run_has_none(tmp_path):
    row = "imagenet/mnasnet_b1/bn_relu"
    _write(tmp_path / "with", 0.7, row)
    off = {"trainer": {"optimizer_config": {"ema": None}}}
    _write(tmp_path / "without", 0.7, row, override=off)
    found = _sorted(tmp_path)
    assert [run.folder[-4:] for run in found.by_row[row]] == ["with"]
    [(_, _, different)] = found.trials
    key = "trainer.optimizer_config.ema.average_decay"
    assert different[key] == (0.9999, None)


def test_runs_of_an_older_version_fill_their_rows():
    """Recorded when half of today's settings did not exist."""
    found = results.sort(results.read([str(RECORDED)]), tables.ROWS)
    assert not found.trials and not found.unfinished and not found.unknown
    assert sum(map(len, found.by_row.values())) >= 13
    for row, those in found.by_row.items():
        for run in those:
            _, layer, batch, _ = run.folder.split("/")
            assert row == f"cifar10/resnet20-{batch}/{layer}"


def test_a_key_that_a_record_lacks_is_off_or_at_its_default():
    row = {"task.new": 0.5, "task.off": None, "task.ema.decay": 0.9}
    old = {"task.ema": None}
    defaults = {"task.new": 0.5, "task.ema.decay": 0.9}
    # A section that is off is recorded, and not at its default.
    assert same_experiment.compare(row, old, defaults) == {
        "task.ema.decay": (0.9, None)
    }
    assert set(same_experiment.compare(row, old)) == {
        "task.new",
        "task.ema.decay",
    }
    # The other way round: what a run had and the row has not.
    assert same_experiment.compare({}, {"task.new": 0.5, "task.off": 0}) == {
        "task.new": (None, 0.5)
    }


def test_a_layer_that_the_table_lacks_is_listed_with_its_number(
    tmp_path, capsys
):
    row = "imagenet/r50/evonorm_s0"
    assert row not in tables.ROWS
    _write(tmp_path / "run", 0.7, row, share=128)
    found = _sorted(tmp_path)
    assert row in found.by_row and not found.unknown and not found.trials
    text = page.markdown(tables.TABLES, found, str(tmp_path))
    assert f"| `{row}` | top-1 % | 70.0 (1) | 112603 steps;" in text
    tables.main([row, "--results", str(tmp_path)])
    assert "ours 70.0 (1)" in capsys.readouterr().out


def test_what_changes_nothing_still_fills_the_row(tmp_path):
    override = (
        "trainer.steps_per_loop=7,trainer.checkpoint_interval=9,"
        "task.validation_data.global_batch_size=77,"
        "task.train_data.tfds_data_dir=elsewhere,"
        "task.train_data.shuffle_buffer_size=5,task.name=mine"
    )
    _write(tmp_path / "run", 0.7, override=override)
    assert list(_sorted(tmp_path).by_row) == [ROW]


def test_batch_statistics_of_other_workers_are_a_trial(tmp_path):
    row = "imagenet/r50-b4/bn_relu"
    _write(tmp_path / "eight", 0.7, row, share=4)
    assert list(_sorted(tmp_path).by_row) == [row]
    _write(tmp_path / "one", 0.7, row, override=_seed(1), share=32)
    [(run, _, different)] = _sorted(tmp_path).trials
    assert run.folder.endswith("one")
    assert different == {"images together": (4, 32)}


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [((4, 4), None), ((4, 32), "4, then 32"), ((), "unknown")],
)
def test_a_row_has_its_batch_statistics_in_the_whole_run(
    tmp_path, shares, wanted
):
    """Also if it was resumed on other devices, or nobody knows which."""
    row = "imagenet/r50-b4/bn_relu"
    _write(tmp_path / "run", 0.7, row, share=4)
    about = tmp_path / "run" / "run.json"
    text = ", then ".join(f"S{k} ({n} a replica)" for k, n in enumerate(shares))
    about.write_text(json.dumps({"devices": text} if shares else {}))
    found = _sorted(tmp_path)
    assert (row in found.by_row) == (wanted is None)
    for _, _, different in found.trials:
        assert different == {"images together": (4, wanted)}
    settings = results.read([str(tmp_path)])[0].settings
    rows = results.rows_of(settings, text, tables.ROWS)
    assert (row in rows) == (wanted is None)


def test_one_run_fills_both_rows_that_are_the_same(tmp_path):
    # 128 images per worker is a column of the sweep and the recipe itself.
    _write(tmp_path / "run", 0.7, "imagenet/r50/bn_relu", share=128)
    rows = sorted(_sorted(tmp_path).by_row)
    assert rows == ["imagenet/r50-b128/bn_relu", "imagenet/r50/bn_relu"]


def test_the_share_of_a_replica_is_read_as_training_writes_it():
    device = tf.distribute.OneDeviceStrategy("CPU:0")
    for accumulation, share in ((1, 8), (2, 4)):
        said = strategy.describe(device, 8, accumulation)
        run = results.Run("run", {}, 1, {}, said, "a machine")
        assert run.shares() == [share]


def test_unfinished_runs_and_runs_of_no_row_are_listed(tmp_path):
    _write(tmp_path / "half", 0.7, step=24_000, half='{"kind": "ev')
    _write(tmp_path / "other", 0.7, override="task.train_data.dataset=cifar100")
    found = _sorted(tmp_path)
    assert not found.by_row and not found.trials
    assert [run.folder.split("/")[-1] for run in found.unfinished] == ["half"]
    assert [run.folder.split("/")[-1] for run in found.unknown] == ["other"]
    # A row whose run has not ended is no row that nobody ran.
    assert found.running == [ROW]
    text = page.markdown(tables.TABLES, found, str(tmp_path))
    _, sweep = text.split(SWEEP, 1)
    line = next(x for x in sweep.splitlines() if x.startswith("| evonorm_s0"))
    assert line == "| evonorm_s0 | not run | not run | not run | running |"
    assert "half, at step 24000: unfinished" in text
    assert "other, at step 25000: accuracy 0.7" in text
    assert str(tmp_path) not in text, "a report names no path of one machine"


def test_one_seed_twice_and_folders_without_runs_are_refused(tmp_path):
    _write(tmp_path / "runs/a", 0.7)
    _write(tmp_path / "runs/b", 0.7)
    with pytest.raises(ValueError, match="same seeds"):
        _sorted(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="no run in"):
        tables.main(["--results", str(tmp_path / "empty")])


def test_command_writes_the_report(tmp_path, capsys):
    _write(tmp_path / "runs/a", 0.7)
    target = tmp_path / "results.md"
    runs = ["--results", str(tmp_path / "runs")]
    tables.main([*runs, "--write", str(target)])
    text = target.read_text()
    assert "| 70.0 (1) |" in text
    # Benchmarks are shown wherever the page is written.
    assert "Keras on JAX, GPU | evonorm_b0" in text
    assert "Keras on JAX, GPU | evonorm_b0 *not run*" not in text
    tables.main([ROW, *runs])
    assert "ours 70.0 (1)" in capsys.readouterr().out


def test_command_does_not_write_every_row_as_not_run(tmp_path, capsys):
    target = tmp_path / "results.md"
    target.write_text("measured")
    with pytest.raises(SystemExit):
        tables.main(["--write", str(target)])
    assert "--write without --results" in capsys.readouterr().err
    assert target.read_text() == "measured"


def test_a_run_can_tell_its_rows_before_it_is_trained():
    recorded = runs.Run(RECORDED / "evonorm_s0/b4/seed0")
    devices = recorded.facts()["devices"]
    settings = same_experiment.flat(recorded.require_config())
    found = results.rows_of(settings, devices, TABLES.rows())
    assert found == [ROW]
    trial = settings | {"task.model.width": 0.5}
    assert results.rows_of(trial, devices, TABLES.rows()) == []
