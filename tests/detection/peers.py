"""Our classes under the Model Garden's names, for its own test cases.

A case makes its subjects as `module.Class(...)`; `swap` puts ours in the
place of those modules, in the test's module alone. The Model Garden's
settings of normalization become ours; a setting that ours have not skips the
case.
"""

import functools
import types
import unittest
from unittest import mock

import tf_keras

from detection import model, pyramid
from evonorm_tf import legacy
from evonorm_tf.nets import spinenet as nets

NORM_ACT = "evonorm_b0"


def swap(case, module, **classes):
    """Puts ours in the place of a test module's modules, for one case."""
    for name, ours in classes.items():
        patch = mock.patch.object(module, name, types.SimpleNamespace(**ours))
        patch.start()
        case.addCleanup(patch.stop)


def _norm_act(settings):
    """Takes the Model Garden's settings of normalization out, as ours."""
    bound = {
        "synchronized": settings.pop("use_sync_bn", False),
        "momentum": settings.pop("norm_momentum", 0.99),
        "epsilon": settings.pop("norm_epsilon", 0.001),
        # A compilation a shape would take longer than the tests.
        "xla": False,
    }
    if settings.pop("activation", "relu") != "relu":
        raise unittest.SkipTest("The activation is norm_act's.")
    return functools.partial(legacy.norm_act, NORM_ACT, **bound)


def _head(ours):
    """A head of ours that takes the Model Garden's arguments."""

    def make(**settings):
        return ours(_norm_act(settings), **settings)

    return make


HEADS = {
    name: _head(getattr(model, name))
    for name in ("RPNHead", "DetectionHead", "MaskHead")
}


class _Model(tf_keras.Model):
    """A functional model with the Model Garden's `output_specs`."""

    @property
    def output_specs(self):
        return {level: x.shape for level, x in self.output.items()}


def spinenet(
    input_specs,
    min_level,
    max_level,
    endpoints_num_filters,
    resample_alpha,
    block_repeats,
    filter_size_scale,
    init_stochastic_depth_rate=0.0,
):
    """A SpineNet of any size."""
    images = tf_keras.Input(input_specs.shape[1:])
    size = nets.Size(
        endpoints_num_filters,
        filter_size_scale,
        resample_alpha,
        block_repeats,
        init_stochastic_depth_rate,
    )
    levels = range(min_level, max_level + 1)
    features = nets.spinenet(
        images, tf_keras.layers, _norm_act({}), size, levels
    )
    return _Model(images, features)


def resnet(model_id, input_specs=None):
    """The ResNet of a number of layers, its levels 2 to 5."""
    shape = (None, None, 3) if input_specs is None else input_specs.shape[1:]
    size = pyramid.scaled(f"resnet{model_id}_postact")
    plain = pyramid.backbone(shape, _norm_act({}), size, range(2, 6))
    return _Model(plain.input, plain.output)


def fpn(
    input_specs,
    min_level,
    max_level,
    num_filters=256,
    fusion_type="sum",
    use_separable_conv=False,
    use_keras_layer=True,
):
    """A feature pyramid; `use_keras_layer` changes no result."""
    del use_keras_layer
    if fusion_type != "sum" or use_separable_conv:
        raise unittest.SkipTest("Our pyramid adds, with plain convolutions.")
    levels = range(min_level, max_level + 1)
    plain = pyramid.fpn(input_specs, _norm_act({}), num_filters, levels)
    return _Model(plain.input, plain.output)
