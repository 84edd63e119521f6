"""Each (network, recipe) and each layer of the tables steps at debug size."""

import math
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from absl import flags as absl_flags
from official.modeling import optimization

import evonorm_tf
from classification import experiment, train
from classification.tables import TABLES
from configs import tables
from evonorm_tf import legacy
from tests.classification import small
from training import config, flags, preflights, runs, schedule

# A row for each network and recipe (a sweep changes the batch alone), with
# layers such that each layer of the tables comes at least once. Every time:
# RMSProp with dropout and an average, on the first stages of the network. SGD
# is in the test of the command, RandAugment in test_data.py.
ROWS = ("imagenet/mobilenet_v2-b4/evonorm_s2",)
SLOW = (
    "imagenet/r50-aug-2x-cosine/evonorm_b2",
    "imagenet/effnet_b0/rs_rej",
    "cifar10/resnet20-b4/evonorm_b0",  # And below, by its command.
    "imagenet/r50-b4/evonorm_s1",
    "imagenet/r101/bn_silu",
    "imagenet/r50-aug/evonorm_b1",
    "imagenet/r50-aug-2x/random_rej",
    "imagenet/mnasnet_b1/random",
    "imagenet/effnet_b5/bn_swish",
    # Layers that are left, on the network that is soonest built.
    "cifar10/resnet20-b128/bn_relu",
    "cifar10/resnet20-b128/gn_relu",
    "cifar10/resnet20-b4/gn_swish",
    "cifar10/resnet20-b4/frn",
    "cifar10/resnet20-b8/evonorm_s0",
    "cifar10/resnet20-e12-b128/gn_silu",
    "cifar10/mobilenet_v2-w0.25-e8-b128/bn_silu",
)
_SLOW = [pytest.param(row, marks=pytest.mark.slow) for row in SLOW]


def _debug(row):
    params = config.parse(row=tables.find(row))
    said = train.HEAD.shrink(params)
    assert "DEBUG" in said and "digits" in said
    return params


def test_the_rows_below_have_every_recipe_and_every_layer():
    chosen = [tables.find(row) for row in (*ROWS, *SLOW)]
    head = chosen[0].recipe.head
    mine = [row for row in tables.ROWS.values() if row.recipe.head == head]
    assert {r.layer for r in chosen} == {row.layer for row in mine}

    def kinds(rows):
        """Networks and files; a sweep differs in the batch alone."""
        return {
            (r.recipe.files, r.settings()["task.model.network"])
            for r in rows
            if "task.model.network" in r.settings()
        }

    assert kinds(chosen) == kinds(mine)


@pytest.mark.parametrize("row", [*ROWS, *_SLOW])
def test_debug_steps_on_the_rows_own_path(row, tmp_path, monkeypatch):
    tf_keras.backend.clear_session()
    params = _debug(row)
    if row in ROWS:
        small.shorten(monkeypatch, params.task.model.network)
    # The warm-up's first rate is 0 and moves nothing.
    params.task.schedule.warmup_epochs = 0.0
    # Compiling is tested elsewhere, and most of the time here.
    with evonorm_tf.using(xla=False):
        result = small.run(tmp_path, params, "train")
    assert result.step == 2
    lines = runs.Run(tmp_path).metrics()
    assert all(math.isfinite(line["training_loss"]) for line in lines)
    # More than the decay alone: 10 or 1000 equal logits, give or take.
    assert lines[0]["training_loss"] > 0.8 * math.log(
        params.task.model.num_classes
    )
    layers = [
        layer
        for layer in result.model._flatten_layers()
        if isinstance(layer, legacy.NormAct)
    ]
    assert {layer.get_config()["name_or_row"] for layer in layers} == {
        row.rsplit("/", 1)[1]
    }
    kernels = [w for w in result.model.trainable_weights if "kernel" in w.name]
    assert len(kernels) > 5
    assert all(np.isfinite(weight).all() for weight in result.model.weights)


def _by_the_command(*line):
    done = subprocess.run(
        [sys.executable, "-m", "classification.train", *line],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def by_its_flags(monkeypatch, capsys):
    """What the command does, in this process; returns what it prints."""
    small.shorten(monkeypatch, "resnet20_cifar")
    given = absl_flags.FLAGS
    before = set(given)
    flags.define_flags()

    def run(*line):
        given(["train", *line])
        flags.run(train.HEAD, TABLES)
        return capsys.readouterr().out

    yield run
    for name in set(given) - before:
        delattr(given, name)
    given.unparse_flags()
    tf_keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize(
    "how",
    ["flags", pytest.param("process", marks=pytest.mark.slow)],
)
def test_a_row_runs_and_evaluates_from_the_command_line(
    how, by_its_flags, tmp_path
):
    run = by_its_flags if how == "flags" else _by_the_command
    said = run(
        "--debug",
        "--row=cifar10/resnet20-b4/evonorm_b0",
        f"--model_dir={tmp_path}",
        "--params_override=runtime.mixed_precision_dtype=bfloat16",
    )
    assert "not cifar10; its accuracy means nothing" in said
    kinds = [line["kind"] for line in runs.Run(tmp_path).metrics()]
    assert kinds == ["train", "train", "eval"]
    about = (tmp_path / "params.yaml").read_text()
    assert "name: evonorm_b0" in about
    assert "mixed_precision_dtype: bfloat16" in about


@pytest.mark.parametrize(
    ("preflight", "batches"),
    [
        # Three replicas of two micro-batches; 16 chips.
        (None, (24, 12)),
        ("v5e:4x4", (128, 64)),
    ],
)
def test_debug_batch_divides_among_replicas_and_micro_batches(
    preflight, batches, monkeypatch
):
    ran = []
    params = config.parse("digits_resnet")
    params.runtime.accumulation_steps = 2
    asked = types.SimpleNamespace(
        **{"debug": True, "preflight": preflight, "preflight_json": None},
        **{"mode": "train", "row": None},
    )
    monkeypatch.setattr(flags.flags, "FLAGS", asked)
    monkeypatch.setattr(flags, "folder", lambda: "there")
    monkeypatch.setattr(flags, "parse", lambda tables: params)
    replicas = types.SimpleNamespace(num_replicas_in_sync=3)
    monkeypatch.setattr(flags.strategy, "build", lambda runtime: replicas)
    monkeypatch.setattr(flags.driver, "run", lambda *a: ran.append("run"))
    report = lambda *a: ran.append("report")  # noqa: E731
    monkeypatch.setattr(preflights, "report", report)
    flags.run(train.HEAD, TABLES)
    assert ran == ["report" if preflight else "run"]
    data = params.task.train_data, params.task.validation_data
    assert tuple(part.global_batch_size for part in data) == batches


def test_rmsprop_is_tensorflows_with_epsilon_inside_the_root():
    params = config.parse(row=tables.find("imagenet/mnasnet_b1/bn_relu"))
    settings = params.trainer.optimizer_config.replace(ema=None)
    settings.learning_rate.override(
        {"type": "constant", "constant": {"learning_rate": 0.1}}
    )
    factory = optimization.OptimizerFactory(settings)
    optimizer = factory.build_optimizer(factory.build_learning_rate())
    variable = tf.Variable([1.0, 2.0])
    weight, square, momentum = np.array([1.0, 2.0]), 0.0, 0.0
    for step in range(1, 4):
        # Gradients around sqrt(epsilon), where its place matters most.
        gradient = np.array([0.01, 0.05]) * step
        optimizer.apply_gradients(
            [(tf.constant(gradient, tf.float32), variable)]
        )
        square = 0.9 * square + 0.1 * gradient**2
        momentum = 0.9 * momentum + 0.1 * gradient / np.sqrt(square + 1e-3)
        weight = weight - momentum
    np.testing.assert_allclose(variable, weight, rtol=1e-5)


def test_mobile_rate_warms_up_and_falls_every_2_4_epochs():
    params = config.parse(row=tables.find("imagenet/mobilenet_v2/bn_relu"))
    experiment.fill_in(params.task)
    examples, batch = 1_281_167, 4096
    schedule.resolve(
        params.trainer, params.task.schedule, examples=examples, batch=batch
    )
    settings = params.trainer.optimizer_config
    rate = optimization.OptimizerFactory(settings).build_learning_rate()
    epoch = examples / batch
    top = 0.016 * batch / 256
    assert params.trainer.train_steps == round(350 * epoch)
    assert params.trainer.validation_interval == round(epoch)

    def at(epochs):
        return float(rate(tf.constant(round(epochs * epoch), tf.int64)))

    # The warm-up ends at the rate that holds after two falls: 5 / 2.4 > 2.
    assert at(2.5) == pytest.approx(top * 0.97**2 / 2, rel=1e-3)
    assert at(5.01) == pytest.approx(top * 0.97**2, rel=1e-6)
    assert at(7.1) == pytest.approx(top * 0.97**2, rel=1e-6)
    assert at(7.3) == pytest.approx(top * 0.97**3, rel=1e-6)
    assert at(349) == pytest.approx(top * 0.97 ** (349 // 2.4), rel=1e-5)
