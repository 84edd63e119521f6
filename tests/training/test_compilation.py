"""What `runtime.compile` chooses, and what it refuses."""

import types

import pytest
import tensorflow as tf
import tf_keras

from evonorm_tf import legacy
from evonorm_tf.ops import settings
from training import compilation, strategy

CPU = tf.distribute.OneDeviceStrategy("CPU:0")


def _devices(*names):
    """A stand-in for a strategy over accelerators."""
    extended = types.SimpleNamespace(worker_devices=names)
    return types.SimpleNamespace(
        extended=extended, num_replicas_in_sync=len(names)
    )


GPU, GPUS = _devices("/GPU:0"), _devices("/GPU:0", "/GPU:1")


def _model(layer):
    return tf_keras.Sequential([tf_keras.layers.Input([4, 4, 8]), layer])


def _norm_act(name, **options):
    return _model(legacy.norm_act(name, **options))


PLAIN = _norm_act("bn_relu")
POOLED = _norm_act("evonorm_b0", synchronized=True)
# Nothing is pooled where there are no batch statistics, or old ones are used.
NOT_POOLED = [
    _norm_act("evonorm_s0", synchronized=True),
    _norm_act("bn_relu", synchronized=True, trainable=False),
]


@pytest.mark.parametrize(
    ("choice", "devices", "models", "kind"),
    [
        ("auto", CPU, [PLAIN], "layers"),
        ("auto", GPU, [POOLED], "step"),
        ("auto", GPUS, [PLAIN, *NOT_POOLED], "step"),
        ("auto", GPUS, [PLAIN, POOLED], "layers"),
        ("step", CPU, [POOLED], "step"),
        ("step", GPUS, [PLAIN], "step"),
        ("layers", GPUS, [PLAIN], "layers"),
        ("off", GPU, [PLAIN], "off"),
    ],
)
def test_choice(choice, devices, models, kind):
    runtime = strategy.Runtime(compile=choice)
    found = compilation.resolve(runtime, devices, models)
    assert found.kind == kind
    assert found.text.startswith("XLA compiles")
    reason = f"layer {POOLED.layers[-1].name!r} is synchronized"
    assert (reason in found.text) == (devices is GPUS and POOLED in models)


@pytest.mark.parametrize(
    ("runtime", "model", "exchange", "message"),
    [
        ({"compile": "all"}, PLAIN, "", "compile='all'"),
        ({"enable_xla": True}, PLAIN, "", "use runtime.compile=step"),
        ({"compile": "step"}, POOLED, "", r"'norm_act.*' is synchronized"),
        (
            {"compile": "step"},
            _model(tf_keras.layers.BatchNormalization(synchronized=True)),
            "",
            "'batch_norm.*' is synchronized",
        ),
        ({"compile": "step"}, PLAIN, "they add losses", "they add.*replicas=2"),
    ],
)
def test_refused(runtime, model, exchange, message):
    runtime = strategy.Runtime(**runtime)
    with pytest.raises(ValueError, match=message):
        compilation.resolve(runtime, GPUS, [model], exchange)


def test_off_compiles_no_layer():
    with settings.using(xla="auto"):
        with compilation.using(strategy.Runtime(compile="off")):
            assert settings.get().xla is False
        with compilation.using(strategy.Runtime(compile="layers")):
            assert settings.get().xla == "auto"


def test_a_shared_layer_moves_its_statistics_twice_in_a_program():
    """Its second call reads what the first one wrote, as without a program."""
    x = tf.random.stateless_normal([4, 3, 3, 8], [1, 2], mean=2.0)

    def moved(kind):
        layer = legacy.norm_act("bn_relu")
        layer.build(x.shape)

        def twice(x):
            return layer(x, training=True) + layer(2.0 * x, training=True)

        run = compilation.compiled(twice, kind)
        return run(x), run(x), layer.moving_mean.numpy()

    for one, other in zip(moved("layers"), moved("step"), strict=True):
        tf.debugging.assert_near(one, other, rtol=1e-5, atol=1e-6)
