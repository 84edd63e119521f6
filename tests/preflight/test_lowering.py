"""A step as StableHLO: its parameters, its text, what it refuses."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from evonorm_tf import legacy, preflight
from evonorm_tf.preflight import lowering
from tests import cases
from tests.preflight import small

IMAGES = tf.TensorSpec([small.BATCH, 8, 8, 3], tf.uint8)
LABELS = tf.TensorSpec([small.BATCH], tf.int32)


@functools.cache
def _lowered(layer="evonorm_b0"):
    model = small.network(layer)
    return model, *preflight.lower(small.train_step(model), IMAGES, LABELS)


def test_state_is_every_weight_once_and_what_changes_is_renewed():
    model, module, kept = _lowered()
    ours = {id(v.handle) for v in model.variables}
    held = {id(each.tensor) for each in kept}
    assert ours <= held
    assert len(held) == len(kept) == len(module.state)
    still = {
        value.name
        for index, value in enumerate(module.state)
        if index not in module.updates
    }
    assert still == {"learning_rate"}
    assert [v.shape for v in module.inputs] == [(8, 8, 8, 3), (8,)]
    assert [v.dtype for v in module.outputs] == ["float32"]


def test_sizes_are_counted_in_bytes():
    assert lowering.Value("x", (2, 3), "bfloat16").bytes == 12
    assert lowering.Value("x", (), "int64").bytes == 8


def test_equal_programs_have_equal_keys_and_others_do_not():
    """Layers are named by a counter, which must not tell programs apart."""
    first = _lowered()[1]
    model = small.network()
    second, _ = preflight.lower(small.train_step(model), IMAGES, LABELS)
    assert first.key == second.key
    assert first.key != _lowered("bn_relu")[1].key


def test_text_has_no_locations_and_no_foreign_operations():
    text = _lowered()[1].text
    assert "loc(" not in text and "#loc" not in text
    assert "mhlo.copy" not in text


def test_clean_removes_nested_and_quoted_locations():
    line = '%0 = a %x loc(fused["f)g"(#loc1), #loc2]) : t loc(#loc)\n'
    assert lowering.clean(line) == "%0 = a %x : t\n"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            case.name,
            marks=[] if case in cases.KERNELS else [pytest.mark.slow],
        )
        for case in cases.CASES
    ],
)
def test_no_layer_contains_a_matrix_product(name):
    """A product with ones would run in reduced precision on a TPU."""
    layer = legacy.norm_act(name, groups=4)
    layer.build((8, 6, 6, 16))

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(y, [x, *layer.trainable_variables])

    module, _ = preflight.lower(step, tf.TensorSpec([8, 6, 6, 16]))
    assert "stablehlo.reduce" in module.text or name == "random_rej"
    assert "dot" not in module.text


def test_unknown_dimension_is_refused():
    step = small.train_step(small.network())
    with pytest.raises(ValueError, match="Every dimension"):
        preflight.lower(step, tf.TensorSpec([None, 8, 8, 3], tf.uint8), LABELS)


def test_operation_without_a_compiler_is_named():
    def step(x):
        return tf.strings.length(tf.strings.as_string(x))

    with pytest.raises(ValueError, match=r"\['AsString'.*test_lowering"):
        preflight.lower(step, tf.TensorSpec([2]))


def test_keras_step_is_the_step_of_fit():
    """The same loss and the same weights after it as `train_on_batch`."""
    models = [small.network() for _ in range(2)]
    data = small.data(8)
    images = tf.cast(data["images"], tf.float32) / 255.0
    labels = tf.constant(data["labels"])
    for model in models:
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=tf_keras.optimizers.SGD(0.1, 0.9), loss=loss)
    expected = models[0].train_on_batch(images, labels)
    found = preflight.keras_step(models[1])(images, labels)
    assert float(found) == pytest.approx(expected, rel=1e-6)
    for one, other in zip(*(m.get_weights() for m in models), strict=True):
        # One is compiled into a graph, which may order a sum anew.
        assert one == pytest.approx(other, abs=1e-6)


def test_keras_step_has_the_loss_of_compile_and_leaves_the_model():
    """Weights of losses count, and the model trains as if without a step."""
    data = small.data(8)
    images = tf.cast(data["images"], tf.float32) / 255.0
    labels = tf.constant(data["labels"])
    models = []
    for _ in range(2):
        network = small.network()
        logits = network.output
        model = tf_keras.Model(network.input, [logits, 2.0 * logits])
        losses = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(
            tf_keras.optimizers.SGD(0.1),
            [losses, losses],
            metrics=["accuracy"],
            loss_weights=[1.0, 0.1],
        )
        models.append(model)
    step = preflight.keras_step(models[0])
    preflight.lower(
        lambda x, y: step(x, [y, y]),
        tf.TensorSpec(images.shape),
        tf.TensorSpec(labels.shape, tf.int32),
    )
    one, other = (m.test_on_batch(images, [labels] * 2) for m in models)
    assert len(one) == 5 and one == other
    want = models[1].train_on_batch(images, [labels] * 2)
    found = step(images, [labels] * 2)
    assert float(found) == pytest.approx(want[0], rel=1e-6)
    for got, want in zip(*(m.get_weights() for m in models), strict=True):
        assert got == pytest.approx(want, abs=1e-6)


def test_keras_step_refuses_what_it_cannot_take():
    with pytest.raises(TypeError, match="tf_keras"):
        preflight.keras_step(object())
    with pytest.raises(ValueError, match="compile it"):
        preflight.keras_step(small.network())


def test_large_boolean_constants_are_what_they_were():
    """TensorFlow packs their bits; jaxlib would refuse to parse them."""
    mlir = pytest.importorskip("jax.interpreters.mlir")
    mask = np.random.default_rng(0).random((7, 131)) < 0.3

    def step(x):
        return tf.where(tf.constant(mask), x, 0.0)

    module, _ = preflight.lower(step, tf.TensorSpec(mask.shape, tf.float32))
    (packed,) = lowering._MASK.findall(module.text)
    found = np.frombuffer(bytes.fromhex(packed[0]), np.uint8)
    np.testing.assert_array_equal(found.reshape(mask.shape), mask)
    with mlir.make_ir_context():
        mlir.ir.Module.parse(module.text)
