"""Shared by the tests of conversion."""

import functools

import numpy as np
import tensorflow as tf

from tests import cases


def scatter(model, seed=3):
    """Gives every weight of normalization layers a value of its own."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            weight = getattr(layer, name, None)
            if weight is not None:
                value = rng.uniform(0.5, 1.5, weight.shape)
                weight.assign(value.astype(np.float32))
    return model


def normalizations(model):
    """Names of the Keras normalization layers in a model, at any depth."""
    kinds = ("BatchNorm", "GroupNorm", "LayerNorm", "SyncBatchNorm")
    return [
        layer.name
        for layer in model._flatten_layers()
        if type(layer).__name__.startswith(kinds)
    ]


def norm_acts(model):
    """NormAct layers of a model by name, at any depth."""
    return {
        layer.name: layer
        for layer in model._flatten_layers()
        if type(layer).__name__ == "NormAct"
    }


def lines(report):
    """{layer: (old, new)} of a report."""
    return {entry.layer: (entry.old, entry.new) for entry in report.entries}


def make(kit_name, name, **options):
    """A callable for `convert`, of the right Keras."""
    kit = cases.kit(kit_name)
    return functools.partial(kit.layers.norm_act, name, **options)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_kept(old, new):
    """All layers but the sites have the old weights, and names."""
    kept = {layer.name: layer for layer in new._flatten_layers()}
    sites = norm_acts(new)
    compared = 0
    for layer in old._flatten_layers(include_self=False):
        inner = list(layer._flatten_layers(include_self=False))
        if layer.name in sites or inner or not layer.weights:
            continue
        pairs = zip(layer.get_weights(), kept[layer.name].get_weights())
        for wanted, got in pairs:
            np.testing.assert_array_equal(got, wanted)
            compared += 1
    assert compared


def assert_trains(kit_name, model, x):
    """One step by `fit` changes the weights, and the loss is finite."""
    keras = cases.kit(kit_name).keras
    before = [np.array(w) for w in model.get_weights()]
    model.compile(keras.optimizers.SGD(1e-3), "mse", run_eagerly=True)
    target = tf.zeros_like(model(x[:1], training=False))
    target = np.zeros((len(x), *target.shape[1:]), np.float32)
    history = model.fit(x, target, batch_size=len(x), verbose=0)
    assert np.isfinite(history.history["loss"][-1])
    same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
    assert not all(same)


def assert_saves(kit_name, model, x, path):
    """.keras, loaded without custom objects, gives equal outputs."""
    model.save(path)
    loaded = cases.kit(kit_name).keras.models.load_model(path)
    np.testing.assert_array_equal(
        np.asarray(loaded(x, training=False)),
        np.asarray(model(x, training=False)),
    )
