"""The anchors: three small networks that a candidate must serve.

Functions of tensors, without a Keras and without variables: weights and
moving statistics go in and come out, so that a whole training is one graph
with one loop, and a candidate costs its tracing and no more. Placement of the
layers is the paper's (Section 4.1, arXiv:2004.02967): before each convolution
of a pre-activation ResNet block, none after a last 1x1 convolution of
MobileNetV2 and EfficientNet blocks, and one before the global pooling.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from evonorm_tf.catalog import Row
from evonorm_tf.ops import plain, settings
from evonorm_tf.ops.plan import Plan

Tensor = tf.Tensor


class Network:
    """One anchor with one layer at all of its sites.

    Args:
      name: an anchor, one of ANCHORS.
      row: the layer.
      width: channels of the stem.
      groups: channel groups; lowered at a site until they divide.
      classes: number of classes.
    """

    def __init__(
        self,
        name: str,
        row: Row,
        width: int = 8,
        groups: int = 4,
        classes: int = 10,
    ):
        if name not in ANCHORS:
            raise ValueError(
                f"An anchor is one of {', '.join(ANCHORS)}. "
                f"Received: anchor={name!r}"
            )
        self._build, self._row = ANCHORS[name], row
        self._width, self._groups, self._classes = width, groups, classes

    def draw(
        self, seed: int, shape: tuple[int, int, int]
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[bool]]:
        """Initial weights, moving statistics, and which weights decay.

        Equal seeds give equal convolutions whatever the layer is: candidates
        are compared with the same start.

        Args:
          seed: of the weights.
          shape: of an image, [H, W, C].
        """
        site = _Pass(self._row, self._groups, training=True)
        site.rng = np.random.default_rng(seed)
        # A graph that is thrown away: shapes are known without computing.
        with tf.Graph().as_default():
            self._logits(site, tf.zeros([2, *shape]))
        return site.drawn, site.drawn_moving, site.decays

    def __call__(
        self,
        weights: Sequence[Tensor],
        moving: Sequence[Tensor],
        images: Tensor,
        training: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits [N, classes], and the statistics of this batch.

        Args:
          weights: as `draw` made them, in order.
          moving: the moving statistics, likewise; used if not training.
          images: [N, H, W, C].
          training: use the statistics of this batch, and return them.
        """
        site = _Pass(self._row, self._groups, training)
        site.weights, site.moving = iter(weights), iter(moving)
        return self._logits(site, images), site.fresh

    def _logits(self, site: "_Pass", images: Tensor) -> Tensor:
        x = self._build(site, images, self._width)
        x = tf.reduce_mean(x, [1, 2])
        bias = site.vector("bias", self._classes, 0.0)
        return x @ site.weight([x.shape[-1], self._classes], 1.0) + bias


class _Pass:
    """One walk through a network: draws its weights, or hands them out."""

    def __init__(self, row: Row, groups: int, training: bool):
        self._row, self._groups, self._training = row, groups, training
        self.rng: np.random.Generator | None = None
        self.weights = self.moving = iter(())
        self.drawn: list[np.ndarray] = []
        self.drawn_moving: list[np.ndarray] = []
        self.decays: list[bool] = []
        self.fresh: list[Tensor] = []

    def weight(self, shape: Sequence[int], gain: float = 2.0) -> Tensor:
        """A kernel; variance gain / fan-in, as He et al. for gain 2."""
        if self.rng is None:
            return next(self.weights)
        # [h, w, channels, multiplier]: a depthwise kernel sees h*w inputs.
        fan_in = math.prod(shape[:-1]) if shape[-1] != 1 else shape[0] ** 2
        value = self.rng.standard_normal(shape) * math.sqrt(gain / fan_in)
        return self._record(value, True)

    def vector(self, name: str, size: int, initial: float) -> Tensor:
        """A vector without weight decay."""
        del name  # For the reader of the networks below.
        if self.rng is None:
            return next(self.weights)
        return self._record(np.full(size, initial), False)

    def _record(self, value: np.ndarray, decays: bool) -> Tensor:
        self.drawn.append(value.astype(np.float32))
        self.decays.append(decays)
        return tf.constant(self.drawn[-1])

    def _statistic(self, size: int, initial: float) -> Tensor | None:
        if self.rng is None:
            return next(self.moving)
        self.drawn_moving.append(np.full(size, initial, np.float32))
        return None

    def conv(
        self, x: Tensor, filters: int, kernel: int, stride: int = 1
    ) -> Tensor:
        shape = [kernel, kernel, x.shape[-1], filters]
        return tf.nn.conv2d(x, self.weight(shape), stride, "SAME")

    def depthwise(self, x: Tensor, stride: int) -> Tensor:
        kernel = self.weight([3, 3, x.shape[-1], 1])
        strides = [1, stride, stride, 1]
        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME")

    def norm_act(self, x: Tensor) -> Tensor:
        """The layer under test, with weights of its own."""
        channels = x.shape[-1]
        values = {
            name: self.vector(name, channels, initial)
            for name, initial in (
                ("gamma", 1.0),
                ("beta", 0.0),
                *self._row.weights,
            )
        }
        statistics = self._row.kernel.statistics
        moving = {
            name: self._statistic(channels, initial)
            for name, initial in statistics
        }
        if self.rng is not None:
            return x  # Drawing: the shape is all that counts.
        plan = Plan(
            kernel=self._row.kernel,
            parameters=tuple(values),
            form=settings.plain(settings.resolved()),
            groups=math.gcd(self._groups, channels),
        )
        # All sizes are known here, and shorten the trace.
        batch, height, width, _ = x.shape
        flat = tf.reshape(x, [batch, height * width, channels])
        if self._training:
            y, fresh = plain.plain(plan, flat, list(values.values()))
            self.fresh += fresh
        else:
            y, _ = plain.plain(plan, flat, list(values.values()), moving)
        return tf.reshape(y, x.shape)


def _resnet(net: _Pass, x: Tensor, width: int) -> Tensor:
    """Pre-activation bottleneck ResNet: 3 blocks, 10 sites."""
    x = net.conv(x, width, 3)
    for filters, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
        h = net.norm_act(x)
        shortcut = net.conv(h, 4 * filters, 1, stride)
        h = net.norm_act(net.conv(h, filters, 1))
        h = net.norm_act(net.conv(h, filters, 3, stride))
        x = net.conv(h, 4 * filters, 1) + shortcut
    return net.norm_act(x)


def _inverted(
    net: _Pass, x: Tensor, filters: int, stride: int, excite: bool
) -> Tensor:
    """1x1, layer, depthwise 3x3, layer, (squeeze-excitation,) 1x1."""
    h = net.norm_act(net.conv(x, 4 * x.shape[-1], 1))
    h = net.norm_act(net.depthwise(h, stride))
    if excite:
        squeezed = tf.reduce_mean(h, [1, 2], keepdims=True)
        squeezed = tf.nn.silu(net.conv(squeezed, x.shape[-1] // 2, 1))
        h *= tf.sigmoid(net.conv(squeezed, h.shape[-1], 1))
    h = net.conv(h, filters, 1)
    return h + x if stride == 1 and filters == x.shape[-1] else h


def _mobile(net: _Pass, x: Tensor, width: int, excite: bool) -> Tensor:
    x = net.norm_act(net.conv(x, width, 3))
    for filters, stride in ((width, 1), (2 * width, 2), (3 * width, 2)):
        x = _inverted(net, x, filters, stride, excite)
    return net.norm_act(net.conv(x, 8 * width, 1))


def _mobilenet(net: _Pass, x: Tensor, width: int) -> Tensor:
    """MobileNetV2-like: 3 inverted residuals, 8 sites."""
    return _mobile(net, x, width, excite=False)


def _efficientnet(net: _Pass, x: Tensor, width: int) -> Tensor:
    """EfficientNet-like: the same with squeeze-excitation, 8 sites."""
    return _mobile(net, x, width, excite=True)


ANCHORS: dict[str, Callable[[Any, Tensor, int], Tensor]] = {
    "resnet": _resnet,
    "mobilenet": _mobilenet,
    "efficientnet": _efficientnet,
}
