"""The weight average: what it averages, what is evaluated, what is trained."""

import importlib
import os

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import train_utils
from official.modeling import optimization

from classification import task
from tests.classification import small
from training import accumulation, average

EMA = {"average_decay": 0.8, "trainable_weights_only": False}


def _parameters(norm_act="evonorm_b0", **trainer):
    params = small.parameters(norm_act, **trainer)
    params.override(
        {
            "task": {"model": {"dropout": 0.3}},
            "trainer": {"optimizer_config": {"ema": EMA}},
        }
    )
    return params


def _average(values, decay=0.8):
    """tf.train.ExponentialMovingAverage from the first value on, float64."""
    result = values[0].astype(np.float64)
    for step, value in enumerate(values[1:], start=1):
        share = min(decay, (1 + step) / (10 + step))
        result = share * result + (1 - share) * value
    return result


def _optimizer(model):
    sgd = tf_keras.optimizers.legacy.SGD(0.5)
    optimizer = average.wrap(sgd, optimization.EMAConfig(**EMA))
    optimizer.shadow_copy(model)
    return optimizer


def _model():
    return tf_keras.Sequential(
        [
            tf_keras.layers.Dense(3, input_shape=(4,)),
            tf_keras.layers.BatchNormalization(),
        ]
    )


def test_average_starts_at_the_weights_and_swaps_bit_for_bit(mirrored):
    with mirrored.scope():
        model = _model()
        optimizer = _optimizer(model)

    def read(variables):
        return [
            [x.numpy() for x in mirrored.experimental_local_results(v)]
            for v in variables
        ]

    weights = model.trainable_variables
    averages = [optimizer.get_slot(w, "average") for w in weights]
    np.testing.assert_equal(read(averages), read(weights))
    for k, weight in enumerate(weights):
        # Adding and subtracting would lose the small ones beside these.
        weight.assign(tf.fill(weight.shape, 1e-5 * (k + 1)))
        averages[k].assign(tf.fill(weight.shape, 3e7 + k))
    raw, mean = read(weights), read(averages)
    with mirrored.scope():
        optimizer.swap_weights()
    np.testing.assert_equal(read(weights), mean)
    np.testing.assert_equal(read(averages), raw)
    with mirrored.scope():
        optimizer.swap_weights()
    np.testing.assert_equal(read(weights), raw)
    np.testing.assert_equal(read(averages), mean)


@pytest.mark.slow
def test_the_average_is_evaluated_and_the_weights_are_trained():
    params = _parameters("bn_relu")
    # Steps so long that six of them tell average and weights apart.
    params.task.schedule.warmup_epochs = 0.0
    params.task.schedule.base_learning_rate = 4.0
    prepared = task.prepare(params)
    tf_keras.utils.set_random_seed(0)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        trainer = train_utils.create_trainer(
            params, prepared, train=True, evaluate=True
        )
        model, steps = trainer.model, []
        steps.append(model.get_weights())
        for _ in range(6):
            trainer.train(tf.constant(1))
            steps.append(model.get_weights())
        logs = trainer.evaluate(tf.constant(-1))
    # Back to the trained weights, bit for bit.
    for now, last in zip(model.get_weights(), steps[-1], strict=True):
        np.testing.assert_array_equal(now, last)
    averages = [_average(values) for values in zip(*steps, strict=True)]
    moving = [i for i, w in enumerate(model.weights) if "moving" in w.name]
    assert moving, "no moving statistics: this would not test them"

    def cross_entropy(weights):
        model.set_weights(weights)
        metric = tf_keras.metrics.SparseCategoricalCrossentropy("", None, True)
        for images, labels in prepared.build_inputs(
            params.task.validation_data
        ):
            logits = model(images, training=False)
            metric.update_state(labels["label"], logits, labels["weight"])
        return float(metric.result())

    # float32 averages of 6 steps; the metric adds 445 float32 terms.
    expected = cross_entropy(averages)
    assert float(logs["cross_entropy"]) == pytest.approx(expected, rel=1e-4)
    assert abs(cross_entropy(steps[-1]) - expected) > 1e-2
    # And not the averaged weights beside the last steps' statistics.
    mixed = [steps[-1][i] if i in moving else a for i, a in enumerate(averages)]
    assert abs(cross_entropy(mixed) - expected) > 1e-3


def test_the_average_of_loaded_weights_starts_at_them(tmp_path, mirrored):
    params = _parameters("bn_relu")
    params.task.init_checkpoint = str(tmp_path)
    prepared = task.prepare(params)
    saved = prepared.build_model()
    for weight in saved.weights:
        weight.assign(tf.fill(weight.shape, 0.625))
    tf.train.Checkpoint(model=saved).save(str(tmp_path / "ckpt"))
    with mirrored.scope():
        trainer = accumulation.Trainer(
            params,
            prepared,
            prepared.build_model(),
            prepared.create_optimizer(params.trainer.optimizer_config),
            train=False,
            evaluate=False,
        )
        trainer.initialize()
    for weight in trainer.model.weights:
        for each in (weight, trainer.optimizer.get_slot(weight, "average")):
            for value in mirrored.experimental_local_results(each):
                assert np.all(value.numpy() == 0.625), weight.name


def _checkpoint(folder, step):
    reader = tf.train.load_checkpoint(os.path.join(folder, f"ckpt-{step}"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(("_CHECKPOINTABLE", "save_counter"))
    }


@pytest.mark.slow  # A killed run in test_driver.py has all of it too.
def test_a_resumed_run_has_the_unbroken_ones_weights_averages_and_dropout(
    tmp_path,
):
    small.run(tmp_path, _parameters(), "train")
    whole = _checkpoint(tmp_path, 12)
    assert any("/average/" in name for name in whole)
    tf.compat.v1.train.update_checkpoint_state(
        str(tmp_path), str(tmp_path / "ckpt-6")
    )
    # An evaluation on the way must not change what is trained after it.
    again = _parameters(validation_interval=4)
    display = small.Silent()
    small.run(tmp_path, again, "train_and_eval", display)
    assert "Resuming from step 6 of 12" in display.lines[0]
    resumed = _checkpoint(tmp_path, 12)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        # As in test_driver: bit for bit but for threaded reductions.
        np.testing.assert_allclose(
            value, resumed[name], rtol=1e-5, atol=1e-7, err_msg=name
        )


def test_float16_scaling_and_replica_context_are_refused(mirrored):
    sgd = tf_keras.optimizers.legacy.SGD(0.5)
    scaled = tf_keras.mixed_precision.LossScaleOptimizer(sgd)
    with pytest.raises(ValueError, match="bfloat16"):
        average.wrap(scaled, optimization.EMAConfig(**EMA))
    with mirrored.scope():
        optimizer = _optimizer(_model())
    with pytest.raises(ValueError, match="all replicas at once"):
        mirrored.run(optimizer.swap_weights)


@pytest.mark.parametrize("head", ["classification.task", "detection.task"])
def test_both_heads_average_with_it(head):
    """The Model Garden's own average starts at zero and rounds."""
    task = importlib.import_module(head).Task
    made = task.create_optimizer(
        optimization.OptimizationConfig(
            {
                "optimizer": {"type": "sgd"},
                "ema": {"average_decay": 0.9},
                "learning_rate": {
                    "type": "constant",
                    "constant": {"learning_rate": 0.1},
                },
            }
        )
    )
    assert isinstance(made, average.WeightAverage)
