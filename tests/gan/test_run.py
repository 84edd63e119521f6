"""Settings, rows and --debug; the guard; steps as a TPU would get them."""

import types

import numpy as np
import pytest
import tensorflow as tf

from configs import tables
from evonorm_tf.ops import settings
from gan import experiment, networks, steps, train
from tests.gan import small
from training import callbacks, config, driver, progress, runs, same_experiment


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    """Nothing is run here: plain operations lower faster."""
    with settings.using(xla=False):
        yield


@pytest.mark.parametrize(
    "which",
    [
        pytest.param(which, marks=pytest.mark.slow)
        if which == "generator"
        else which
        for which in steps.STEPS
    ],
)
def test_steps_are_written_for_a_tpu(which):
    params = small.parameters("evonorm_b0")
    module = steps.preflight_module(params, "evonorm_b0", 4, which)
    # Every kernel of the network that is trained is renewed, and its `u`.
    renewed = [module.state[index].name for index in module.updates]
    assert sum(name.endswith("kernel") for name in renewed) >= 8
    assert any(name.endswith("u") for name in renewed)
    assert len(module.inputs) == (2 if which == "discriminator" else 0)
    if which == "generator":  # Without layers there are no `v`.
        bare = steps.preflight_module(params, None, 4, which)
        assert len(bare.state) < len(module.state)


def test_guard_says_which_loss_and_which_network(tmp_path):
    network = types.SimpleNamespace(weights=[tf.Variable(1.0, name="w")])
    broken = types.SimpleNamespace(weights=[tf.Variable(np.nan, name="v")])
    built = driver.Built(
        types.SimpleNamespace(global_step=tf.Variable(7)),
        None,
        {"generator": network, "discriminator": broken},
        images=8,
        losses={},
    )
    seen = callbacks.Callbacks(
        built, small.Silent(), runs.Run(tmp_path), (0, 10)
    )
    logs = {"discriminator_loss_real": 1.0, "generator_loss": np.inf}
    with pytest.raises(FloatingPointError) as caught:
        seen.trained({k: tf.constant(v) for k, v in logs.items()})
    message = str(caught.value)
    assert "generator_loss is inf" in message
    assert "discriminator_loss_real" not in message
    assert "1 of the discriminator's 1 weights" in message
    assert "by step 7" in message
    assert runs.Run(tmp_path).metrics() == []


@pytest.mark.parametrize(
    "task, message",
    [
        ({"accumulation": 3}, "accumulation=3, batch=8"),
        ({"discriminator_steps": 0}, "at least 1"),
        ({"train_data": {"global_batch_size": 0}}, "global_batch_size=0"),
        ({"train_data": {"shuffle_buffer_size": 0}}, "shuffle_buffer_size=0"),
        ({"model": {"num_classes": 0}}, "num_classes must be at least 1"),
        ({"train_data": {"global_batch_size": 8, "dataset": ""}}, "recipe"),
        ({"train_data": {"split": "all"}}, "train and test"),
        ({"init_checkpoint": "runs/a"}, "no effect.*init_checkpoint='runs/a'"),
        ({"validation_data": {"is_training": False}}, "is_training=False"),
    ],
)
def test_settings_that_cannot_be(task, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        small.make(tmp_path, small.parameters(task=task))


@pytest.mark.parametrize(
    "key, value",
    [
        ("samples", 1),
        ("batch_size", 0),
        ("splits", 0),
        ("kernel_block", -1),
        ("kernel_blocks", 0),
        ("standing_batches", 0),
        ("settle_iterations", 0),
        ("grid_rows", 0),
        ("truncations", []),
        ("truncations", [1.0, 2.0]),
        ("truncations", [0.0]),
    ],
)
def test_evaluations_that_cannot_be(key, value, tmp_path):
    params = small.parameters()
    setattr(params.task.evaluation, key, value)
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match=rf"Received: .*\b{key}="):
        small.make(folder, params)
    assert not folder.exists()


@pytest.mark.parametrize(
    "changes, received",
    [
        (
            "trainer.optimizer_config.optimizer.type=sgd",
            "trainer.optimizer_config.optimizer.type='sgd'",
        ),
        (
            "trainer.optimizer_config.ema.average_decay=0.5",
            "trainer.optimizer_config.ema.",
        ),
        ("trainer.best_checkpoint_eval_metric=fid", ""),
        ("trainer.best_checkpoint_export_subdir=best", ""),
        ("trainer.validation_steps=3", ""),
        ("trainer.recovery_max_trials=2", ""),
        ("task.init_checkpoint=runs/other", ""),
        ("task.validation_data.global_batch_size=3", ""),
        ("task.validation_data.tfds_data_dir=x", ""),
        ("task.allow_image_summary=true", ""),
        ("runtime.loss_scale=128.0", ""),
    ],
)
def test_settings_that_a_gan_does_not_read_are_refused(changes, received):
    params = config.parse("digits_biggan", params_override=changes)
    key = received or changes.split("=")[0]
    with pytest.raises(ValueError, match=rf"no effect; .*Received: {key}"):
        train.HEAD.prepare(params, None)


def test_float16_without_a_scaled_loss_is_refused():
    params = small.parameters()
    params.runtime.mixed_precision_dtype = "float16"
    with pytest.raises(ValueError, match=r"bfloat16.*mixed_precision_dtype="):
        train.HEAD.prepare(params, None)
    params.runtime.mixed_precision_dtype = "bfloat16"
    train.HEAD.prepare(params, None)


def test_the_best_checkpoint_of_a_gan_is_not_promised(tmp_path):
    with pytest.raises(ValueError, match="only its last ones; use --mode=eval"):
        small.make(tmp_path, small.parameters(), "eval_best")


class _Controller:
    """Orbit's, of a run that only counts."""

    def __init__(self, folder, step):
        self.global_step = tf.Variable(step)
        self._run = runs.Run(folder)
        self.done = []

    def train(self, steps, checkpoint_at_completion=True):
        """Takes no time."""
        self.global_step.assign(steps)
        self.done.append(f"train to {steps}")

    def evaluate(self, steps):
        """Records where it was."""
        assert steps == -1
        step = int(self.global_step.numpy())
        self._run.add_metrics("eval", step, {})
        self.done.append(f"evaluate at {step}")
        return {"classifier_distance": 1.0}

    def save_checkpoint(self):
        """The last."""
        self.done.append("save")


@pytest.mark.parametrize("step, known", [(0, ""), (3, ""), (4, "4"), (4, "")])
def test_evaluations_are_where_an_unbroken_run_has_them(step, known, tmp_path):
    if known:
        line = f'{{"kind": "eval", "step": {known}}}\n'
        (tmp_path / "metrics.jsonl").write_text(line)
    controller = _Controller(tmp_path, step)
    trainer = types.SimpleNamespace(
        train_steps=9, validation_interval=4, validation_steps=-1
    )
    found = driver.train_and_evaluate(
        controller, trainer, "train_and_eval", runs.Run(tmp_path), first=True
    )
    assert found == {"classifier_distance": 1.0}
    expected = ["evaluate at 0"]
    for last in (4, 8, 9):
        expected += [f"train to {last}", f"evaluate at {last}"]
    left = {0: 0, 3: 1, 4: 3 if known else 2}[step]
    assert controller.done == [*expected[left:], "save"]


def test_start_up_line_has_the_rates_of_both_networks():
    said = progress.settings(config.parse("biggan"))
    assert "adam, learning rates generator 5e-05, discriminator 0.0002," in said
    assert "None" not in said


def test_paper_defaults_need_a_recipe():
    params = config.parse("biggan")
    assert isinstance(params.task, experiment.Task)
    with pytest.raises(ValueError, match="No dataset is set"):
        train.HEAD.prepare(params, None)


@pytest.mark.parametrize(
    "experiment_name, steps, batch",
    [("digits_biggan", 300, 32), ("biggan", 2, 4)],
)
def test_debug_shrinks_any_experiment(experiment_name, steps, batch):
    params = config.parse(experiment_name)
    params.task.evaluation.path = "not here"
    said = train.HEAD.shrink(params)
    assert ("mean nothing" in said) == (steps == 2)
    assert params.trainer.train_steps == steps
    assert steps % params.trainer.steps_per_loop == 0
    assert params.task.model.generator_width == 8
    assert params.task.train_data.global_batch_size == batch
    assert params.task.evaluation.extractor == "own"
    if steps == 2:  # No ImageNet, but files that are decoded all the same.
        assert params.task.train_data.dataset == "jpeg_digits"
        assert not params.task.evaluation.path


def _rows():
    return [row for row in tables.ROWS.values() if row.recipe.head == "gan"]


def test_every_row_of_the_papers_table_is_there():
    ids = {row.id for row in _rows()}
    paper = {i for i in ids if i.startswith("imagenet128/biggan_deep/")}
    layers = ("bn_relu", "evonorm_b0", "evonorm_s0", "gn_relu", "ln_relu")
    layers += ("pn_relu",)
    assert paper == {f"imagenet128/biggan_deep/{layer}" for layer in layers}
    row = tables.find("imagenet128/biggan_deep/evonorm_b0")
    printed = {m.name: [v.printed for v in p] for m, p in row.paper.items()}
    assert printed == {
        "IS": ["101.13"],
        "IS, best of 3": ["113.63"],
        "FID": ["6.91"],
        "FID, best of 3": ["5.87"],
    }


def test_every_row_is_what_its_run_will_be():
    for row in _rows():
        params = config.parse(row=row)
        resolved = same_experiment.flat(params.as_dict())
        for key, value in row.settings().items():
            assert resolved[key] == value, (row.id, key)
        networks.check(params.task.model)
    task = config.parse(row=tables.find("imagenet128/biggan/bn_relu")).task
    assert task.train_data.global_batch_size == 2048
    assert task.model.norm_act.synchronized
    assert (task.discriminator_steps, task.average_decay) == (2, 0.9999)
    adam = task.generator_optimizer
    assert (adam.learning_rate, adam.beta_1, adam.beta_2) == (5e-5, 0.0, 0.999)
    assert task.discriminator_optimizer.learning_rate == 2e-4


@pytest.mark.slow
@pytest.mark.parametrize("row", [row.id for row in _rows()])
def test_every_row_steps_at_debug_size(row, tmp_path):
    """On embedded images: no row needs its data for it."""
    params = config.parse(row=tables.find(row))
    train.HEAD.shrink(params)
    result = small.make(tmp_path, params)
    assert int(result.trainer.global_step) == 2
    for line in runs.Run(tmp_path).metrics():
        assert all(np.isfinite(v) for k, v in line.items() if k != "kind")
