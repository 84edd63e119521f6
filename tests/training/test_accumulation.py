"""Accumulated micro-batches take the step of the whole batch."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import base_task, config_definitions

from evonorm_tf import legacy
from training import accumulation, dropout_seed, strategy

X = np.random.default_rng(0).normal(size=(8, 6, 6, 4)).astype(np.float32)
SCALE = 2.0**19
LABEL = np.arange(8, dtype=np.int32) % 3


class _Task(base_task.Task):
    """A classifier's loss and metrics, as the Model Garden trains them."""

    def build_inputs(self, params, input_context=None):
        raise NotImplementedError("The tests bring their own.")

    def build_losses(self, labels, model_outputs, aux_losses=None):
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=model_outputs
        )
        return tf.reduce_mean(each) + tf.add_n(aux_losses)


class _Seeded(_Task):
    """With the seeded dropout of the heads' tasks."""

    def train_step(self, inputs, model, optimizer, metrics=None):
        dropout_seed.seed(model, 7, optimizer.iterations)
        return super().train_step(inputs, model, optimizer, metrics)


def _model(norm_act, dropout=0.0):
    tf_keras.utils.set_random_seed(1)
    layers = tf_keras.layers
    with dropout_seed.seedable():
        return tf_keras.Sequential(
            [
                layers.Input([6, 6, 4]),
                # Before a layer that subtracts means, the gradient of a bias
                # would be rounding errors.
                layers.Conv2D(8, 3, use_bias=False, kernel_regularizer="l2"),
                legacy.norm_act(norm_act, groups=4),
                layers.Dropout(dropout),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, dtype="float32"),
            ]
        )


def _steps(
    norm_act, count, devices=None, kind="layers", dropout=0.0, scales=False
):
    """Loss, accuracy and weights after three steps in `count` parts each."""
    devices = devices or tf.distribute.OneDeviceStrategy("CPU:0")
    with devices.scope():
        model = _model(norm_act, dropout)
        optimizer = tf_keras.optimizers.legacy.SGD(
            0.1, 0.9, nesterov=True, clipvalue=0.05
        )
        if scales:
            # So large that the first gradients overflow and it is halved.
            optimizer = tf_keras.mixed_precision.LossScaleOptimizer(
                optimizer, initial_scale=SCALE
            )
        optimizer._create_all_weights(model.trainable_variables)
        accuracy = tf_keras.metrics.SparseCategoricalAccuracy()
        kind_of_task = _Seeded if dropout else _Task
        task = kind_of_task(config_definitions.TaskConfig())
    replicas = devices.num_replicas_in_sync
    data = tf.data.Dataset.from_tensors((X, LABEL)).unbatch()
    data = data.repeat().batch(8 // replicas, drop_remainder=True)
    data = iter(devices.distribute_datasets_from_function(lambda _: data))

    @tf.function
    def run(inputs):
        def one(part):
            return accumulation.step(
                task, part, model, optimizer, [accuracy], count, kind
            )[task.loss]

        return devices.run(one, args=(inputs,))

    with devices.scope():
        losses = [
            float(devices.reduce("MEAN", run(next(data)), axis=None))
            for _ in range(3)
        ]
    assert int(optimizer.iterations.numpy()) == 3, "steps are the optimizer's"
    if scales:
        assert float(optimizer.loss_scale) == SCALE / 2
    values = {w.name: w.numpy() for w in model.weights}
    return losses, float(accuracy.result()), values


@pytest.fixture(scope="module")
def whole_batch():
    """What steps of EvoNorm-S0 give that are not cut."""
    return _steps("evonorm_s0", 1)


@pytest.mark.slow  # Two parts, of two replicas: test_under_replicas.
@pytest.mark.parametrize("count", [2, 4, 8])
def test_equals_the_whole_batch_without_batch_statistics(count, whole_batch):
    losses, accuracy, weights = whole_batch
    parts = _steps("evonorm_s0", count)
    # float32 sums in another order: some 2^-23 a sum.
    np.testing.assert_allclose(parts[0], losses, rtol=1e-6)
    assert parts[1] == accuracy
    for value, got in zip(weights.values(), parts[2].values()):
        close = {"rtol": 1e-6, "atol": 1e-6 * np.abs(value).max()}
        np.testing.assert_allclose(got, value, **close)


@pytest.mark.parametrize(
    "norm_act, count, replicas",
    [
        pytest.param("evonorm_b0", 2, 1, marks=pytest.mark.slow),
        pytest.param("evonorm_s0", 1, 2, marks=pytest.mark.slow),
        ("bn_relu", 2, 2),
    ],
)
def test_a_compiled_step_equals_one_that_is_not(
    norm_act, count, replicas, mirrored
):
    devices = mirrored if replicas == 2 else None
    losses, accuracy, weights = _steps(norm_act, count, devices, dropout=0.4)
    compiled = _steps(norm_act, count, devices, "step", dropout=0.4)
    np.testing.assert_allclose(compiled[0], losses, rtol=1e-6)
    assert compiled[1] == accuracy
    # Weights and moving statistics.
    for value, got in zip(weights.values(), compiled[2].values()):
        np.testing.assert_allclose(
            got, value, rtol=0, atol=1e-6 * np.abs(value).max()
        )


@pytest.mark.slow
def test_a_compiled_step_scales_its_loss(mirrored):
    policy = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        losses, _, weights = _steps("evonorm_s0", 2, mirrored, scales=True)
        compiled = _steps("evonorm_s0", 2, mirrored, "step", scales=True)
    finally:
        tf_keras.mixed_precision.set_global_policy(policy)
    np.testing.assert_allclose(compiled[0], losses, rtol=2e-3)
    assert losses[1] == losses[0] > losses[2], "the first step is skipped"
    for value, got in zip(weights.values(), compiled[2].values()):
        np.testing.assert_allclose(
            got, value, rtol=0, atol=1e-2 * np.abs(value).max()
        )


def test_under_replicas(mirrored, whole_batch):
    losses, accuracy, weights = whole_batch
    parts = _steps("evonorm_s0", 2, mirrored)
    np.testing.assert_allclose(parts[0], losses, rtol=1e-6)
    assert parts[1] == accuracy
    for value, got in zip(weights.values(), parts[2].values()):
        close = {"rtol": 1e-6, "atol": 1e-6 * np.abs(value).max()}
        np.testing.assert_allclose(got, value, **close)


def test_moving_statistics_move_once_a_micro_batch():
    def moved(count):
        found = _steps("bn_relu", count)[2]
        (value,) = [v for k, v in found.items() if "moving_mean" in k]
        return value

    # From 0 towards much the same means, by 0.9: after 2 moves 0.19 of the
    # way, after 4 moves 0.34.
    ratio = np.median(moved(2) / moved(1))
    assert 1.6 < ratio < 2.0, ratio


def test_seeded_draws_differ_between_parts():
    seen = []

    class Counting(_Task):
        def train_step(self, inputs, model, optimizer, metrics=None):
            seen.append(int(optimizer.iterations))
            optimizer.apply_gradients([])
            return {}

    class Optimizer:
        iterations = tf.constant(5, tf.int64)

        def apply_gradients(self, pairs):
            assert not pairs

    task = Counting(config_definitions.TaskConfig())
    accumulation.step(task, (X, LABEL), None, Optimizer(), None, 4)
    assert seen == [20, 21, 22, 23]


def test_refused():
    device = tf.distribute.OneDeviceStrategy("CPU:0")
    with pytest.raises(ValueError, match="divide a replica's batch, 8"):
        strategy.describe(device, 8, 3)
    with pytest.raises(ValueError, match="at least 1"):
        strategy.describe(device, 8, 0)
    assert "4 micro-batches of 2 a step" in strategy.describe(device, 8, 4)
