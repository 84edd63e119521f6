"""What may differ where a run goes on, and what is refused."""

import json

import pytest
import yaml

from classification import task
from tests.classification import small
from training import config, runs

_CONSTANT = {"type": "constant", "constant": {"learning_rate": 0.1}}


def _resolved(changes=None, **trainer):
    params = small.parameters(**trainer)
    config.override(params, changes or {})
    task.prepare(params)
    return params


@pytest.fixture
def folder(tmp_path):
    """A directory with the record of a run of 12 steps."""
    runs.Run(tmp_path).record(_resolved(), "one", {"input_shape": [8, 8, 1]})
    return runs.Run(tmp_path)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"task": {"seed": 7}}, r"task\.seed=7 \(recorded: 0\)"),
        ({"task": {"weight_decay": 0.5}}, r"weight_decay=0\.5 \(recorded: "),
        ({"task": {"label_smoothing": 0.3}}, "label_smoothing=0.3"),
        ({"task": {"schedule": {"decay": "stepwise"}}}, "stepwise"),
        ({"task": {"train_data": {"mixup_alpha": 0.4}}}, "mixup_alpha=0.4"),
        (
            {"task": {"validation_data": {"split": "train"}}},
            r"validation_data\.split='train'",
        ),
        (
            {"trainer": {"optimizer_config": {"ema": {"average_decay": 0.9}}}},
            "ema.average_decay=0.9",
        ),
        ({"task": {"model": {"width": 1.0}}}, "another model"),
    ],
)
def test_another_run_is_refused_key_by_key(folder, changes, words):
    with pytest.raises(ValueError, match="Use another model_dir") as caught:
        folder.require_same(_resolved(changes), "resume", 6)
    caught.match(words)


@pytest.mark.parametrize(
    "runtime",
    [{"mixed_precision_dtype": "bfloat16"}, {"accumulation_steps": 2}]
    + [{"loss_scale": "dynamic"}],
)
def test_precision_and_accumulation_belong_to_the_run(
    folder, tmp_path, runtime
):
    changed = _resolved({"runtime": runtime})
    with pytest.raises(ValueError, match=f"runtime.{next(iter(runtime))}="):
        folder.require_same(changed, "resume", 6)
    folder.require_same(changed, "read")
    # Recorded before there were such settings.
    path = tmp_path / runs.CONFIG_FILE
    before = yaml.safe_load(path.read_text())
    for key in ("mixed_precision_dtype", "accumulation_steps", "loss_scale"):
        del before["runtime"][key]
    path.write_text(yaml.safe_dump(before))
    folder.require_same(_resolved(), "resume", 6)
    with pytest.raises(ValueError, match="recorded: 'nothing'"):
        folder.require_same(changed, "resume", 6)


def test_data_may_move_and_devices_and_intervals_change(folder):
    changes = {
        "task": {
            "validation_data": {"global_batch_size": 16},
            "schedule": {"validation_epochs": 1.0},
        },
        "trainer": {"steps_per_loop": 1, "checkpoint_interval": 3},
        "runtime": {"cpu_replicas": 2},
    }
    params = _resolved(changes)
    params.task.train_data.tfds_data_dir = "elsewhere"
    folder.require_same(params, "resume", 6)


def test_a_run_grows_where_its_rate_does_not_depend_on_its_length(tmp_path):
    for name, rate in (("cosine", {}), ("constant", _CONSTANT)):
        settings = {"optimizer_config": {"learning_rate": rate}} if rate else {}
        folder = runs.Run(tmp_path / name)
        folder.record(_resolved(**settings), "one")
        longer = _resolved(train_steps=24, **settings)
        if rate:
            folder.require_same(longer, "resume", 12)
            with pytest.raises(ValueError, match=r"train_steps=6 \(rec.* 12"):
                shorter = _resolved(train_steps=6, **settings)
                folder.require_same(shorter, "resume", 12)
            continue
        with pytest.raises(ValueError, match=r"train_steps=24 .*: 12\)"):
            folder.require_same(longer, "resume", 6)


def test_an_evaluation_needs_the_same_model_and_average(folder):
    folder.require_same(_resolved({"task": {"seed": 7}}), "read")
    ema = {"trainer": {"optimizer_config": {"ema": {"average_decay": 0.9}}}}
    for changes in ({"task": {"model": {"dropout": 0.5}}}, ema):
        with pytest.raises(ValueError, match="recorded"):
            folder.require_same(_resolved(changes), "read")


def test_a_record_older_than_a_key_has_its_default(folder, tmp_path):
    path = tmp_path / runs.CONFIG_FILE
    before = yaml.safe_load(path.read_text())
    for key in ("mixup_alpha", "randaugment_magnitude"):
        del before["task"]["train_data"][key]
    del before["task"]["model"]["stochastic_depth"]
    path.write_text(yaml.safe_dump(before))
    folder.require_same(_resolved(), "resume", 6)
    for change in ({"mixup_alpha": 0.4}, {"randaugment_magnitude": 5.0}):
        with pytest.raises(ValueError, match="recorded: 'nothing'"):
            params = _resolved({"task": {"train_data": change}})
            folder.require_same(params, "resume", 6)


def test_a_finished_runs_record_stays_but_for_facts_it_lacks(folder, tmp_path):
    config_before = (tmp_path / runs.CONFIG_FILE).read_text()
    about = json.loads((tmp_path / runs.FACTS_FILE).read_text())
    facts = {"input_shape": [1], "classes": ["a"]}
    again = _resolved(checkpoint_interval=3)
    folder.record(again, "two", facts, finished=True)
    assert (tmp_path / runs.CONFIG_FILE).read_text() == config_before
    after = json.loads((tmp_path / runs.FACTS_FILE).read_text())
    assert after == about | {"classes": ["a"]}
    folder.record(again, "two", facts)
    after = json.loads((tmp_path / runs.FACTS_FILE).read_text())
    assert after["devices"] == "two"


def test_a_resumed_run_records_the_devices_of_all_its_parts(folder, tmp_path):
    for step, devices in ((6, "one"), (6, "two"), (8, "one")):
        folder.record(_resolved(), devices, step=step)
    assert folder.facts()["devices"] == "one, then two"
    assert "then" not in folder.facts()["machine"]
    # A record of another machine, or without devices.
    (tmp_path / runs.FACTS_FILE).write_text('{"machine": "another"}')
    folder.record(_resolved(), "two", step=6)
    assert folder.facts()["devices"] == "devices not recorded, then two"
    assert folder.facts()["machine"].startswith("another, then ")
    folder.record(_resolved(), "three")
    assert folder.facts()["devices"] == "three"
