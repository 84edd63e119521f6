"""The Model Garden's own test cases, run over our classes.

What is left out, and why:

- test_serialize_deserialize: equality of configs that hold BatchNorm's
  arguments. Ours are handed a callable, `norm_act`, so that a config alone
  cannot make them anew; a run's `params.yaml` does.
- test_session: no case, but a helper of the base class.
- test_activation, test_invalid_activation_raises_valurerror: of an argument
  that ours have not; the activation is norm_act's.
"""

import pytest
from absl import flags
from official.vision.modeling import maskrcnn_model_test
from official.vision.modeling.backbones import spinenet_test
from official.vision.modeling.decoders import fpn_test
from official.vision.modeling.heads import (
    dense_prediction_heads_test,
    instance_heads_test,
)

from tests.detection import peers


@pytest.fixture(autouse=True, scope="module")
def _parsed():
    """The cases' temporary folders are named by a flag."""
    before = flags.FLAGS.is_parsed()
    flags.FLAGS.mark_as_parsed()
    yield
    if not before:
        flags.FLAGS.unparse_flags()


@pytest.mark.slow
class TestSpineNet(spinenet_test.SpineNetTest):
    """Levels and their shapes; a checkpoint at another image size."""

    def setUp(self):
        super().setUp()
        ours = {"SpineNet": peers.spinenet}
        peers.swap(self, spinenet_test, spinenet=ours)

    test_serialize_deserialize = None
    test_session = None
    test_activation0 = test_activation1 = None
    test_invalid_activation_raises_valurerror = None


@pytest.mark.slow
class TestFPN(fpn_test.FPNTest):
    """Levels and their shapes, on our ResNet and a backbone of theirs."""

    def setUp(self):
        super().setUp()
        peers.swap(
            self,
            fpn_test,
            resnet={"ResNet": peers.resnet},
            fpn={"FPN": peers.fpn},
        )

    test_serialize_deserialize = None
    test_session = None


class TestRPNHead(dense_prediction_heads_test.RpnHeadTest):
    """Shapes of scores and boxes, of plain and separable convolutions."""

    def setUp(self):
        super().setUp()
        theirs = dense_prediction_heads_test
        peers.swap(self, theirs, dense_prediction_heads=peers.HEADS)

    test_serialize_deserialize = None
    test_session = None


class TestDetectionHead(instance_heads_test.DetectionHeadTest):
    """Shapes, with and without convolutions and dense layers."""

    def setUp(self):
        super().setUp()
        peers.swap(self, instance_heads_test, instance_heads=peers.HEADS)

    test_serialize_deserialize = None
    test_session = None


class TestMaskHead(instance_heads_test.MaskHeadTest):
    """Shapes, by scale, depth and class."""

    def setUp(self):
        super().setUp()
        peers.swap(self, instance_heads_test, instance_heads=peers.HEADS)

    test_serialize_deserialize = None
    test_session = None


@pytest.mark.slow
class TestMaskRCNN(maskrcnn_model_test.MaskRCNNModelTest):
    """What a model returns and saves, of every kind of input.

    test_forward is for a TPU or a GPU and skips itself elsewhere.
    """

    def setUp(self):
        super().setUp()
        peers.swap(
            self,
            maskrcnn_model_test,
            resnet={"ResNet": peers.resnet},
            fpn={"FPN": peers.fpn},
            dense_prediction_heads=peers.HEADS,
            instance_heads=peers.HEADS,
        )

    test_serialize_deserialize0 = test_serialize_deserialize1 = None
    test_session = None
