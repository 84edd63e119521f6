"""The anchors: three small networks on which candidates are evaluated.

They are functions of tensors, without a Keras and without variables: weights
and moving statistics are inputs and outputs, so that a whole training is one
graph with one loop, and a candidate costs little more than its tracing.

The networks are those of `evonorm_tf.nets`, with one block per stage. The Keras
layers module with which these are built is here a `_Pass`.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from evonorm_tf import nets
from evonorm_tf.catalog import Row
from evonorm_tf.nets import mobile, resnet
from evonorm_tf.ops import settings
from evonorm_tf.ops import tensorflow as backend
from evonorm_tf.ops.kernel import Plan
from evonorm_tf.search import layer_fn

Tensor = tf.Tensor
Layer = Callable[..., Tensor]


class Network:
    """One anchor with one layer everywhere.

    Args:
      name: an anchor, one of ANCHORS.
      row: the layer.
      width: channels of the stem.
      groups: channel groups, lowered until they divide the channels.
      classes: number of classes.
      shared: whether to trace the layer once, as a function that is called
        everywhere, with sizes that are known at run time; for a training in a
        function.
    """

    def __init__(
        self,
        name: str,
        row: Row,
        width: int = 8,
        groups: int = 4,
        classes: int = 10,
        shared: bool = False,
    ):
        if name not in ANCHORS:
            raise ValueError(
                f"An anchor must be one of {', '.join(ANCHORS)}. "
                f"Received: anchor={name!r}"
            )
        self._size, self._row = ANCHORS[name](width), row
        self._groups, self._classes = groups, classes
        self._compute = layer_fn.Shared() if shared else layer_fn.compute

    def draw(
        self, seed: int, shape: tuple[int, int, int]
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[bool]]:
        """Returns initial weights, moving statistics, and a decay mask.

        Equal seeds give equal convolutions whatever the layer is, so that
        candidates are compared with the same start.

        Args:
          seed: of the weights.
          shape: of an image, [H, W, C].
        """
        site = self._pass(training=True)
        site.rng = np.random.default_rng(seed)
        # A temporary graph: shapes are inferred without computing.
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
        """Returns logits [N, classes], and the statistics of this batch.

        Args:
          weights: from `draw`, in order.
          moving: the moving statistics, likewise; used if not training.
          images: [N, H, W, C].
          training: whether to use the statistics of this batch, and return
            them.
        """
        site = self._pass(training)
        site.weights, site.moving = iter(weights), iter(moving)
        return self._logits(site, images), site.fresh

    def _pass(self, training: bool) -> "_Pass":
        return _Pass(self._row, self._groups, training, self._compute)

    def _logits(self, site: "_Pass", images: Tensor) -> Tensor:
        x = nets.build(self._size, images, site, site.norm_act)
        x = tf.reduce_mean(x, [1, 2])
        bias = site.vector("bias", self._classes, 0.0)
        return x @ site.weight([x.shape[-1], self._classes], 1.0) + bias


class _Pass:
    """One pass through a network: draws its weights, or reads them in order.

    It takes the place of the Keras layers module in `nets`, with the layers of
    the anchors as functions of tensors. All kernels are drawn by their fan-in,
    whatever initializer is requested. The data format of `nets` is always
    "channels_last".
    """

    def __init__(
        self,
        row: Row,
        groups: int,
        training: bool,
        compute: layer_fn.Compute = layer_fn.compute,
    ):
        self._row, self._groups, self._training = row, groups, training
        self._compute = compute
        self.rng: np.random.Generator | None = None
        self.weights = self.moving = iter(())
        self.drawn: list[np.ndarray] = []
        self.drawn_moving: list[np.ndarray] = []
        self.decays: list[bool] = []
        self.fresh: list[Tensor] = []

    def weight(self, shape: Sequence[int], gain: float = 2.0) -> Tensor:
        """Returns a kernel; variance gain / fan-in, He et al. for gain 2."""
        if self.rng is None:
            return next(self.weights)
        # [h, w, channels, multiplier]: a depthwise kernel has h*w inputs.
        fan_in = math.prod(shape[:-1]) if shape[-1] != 1 else shape[0] ** 2
        value = self.rng.standard_normal(shape) * math.sqrt(gain / fan_in)
        return self._record(value, True)

    def vector(self, name: str, size: int, initial: float) -> Tensor:
        """Returns a vector without weight decay."""
        del name  # Only for readers of the networks below.
        if self.rng is None:
            return next(self.weights)
        return self._record(np.full(size, initial), False)

    def _record(self, value: np.ndarray, decays: bool) -> Tensor:
        self.drawn.append(value.astype(np.float32))
        self.decays.append(decays)
        return tf.constant(self.drawn[-1])

    def Conv2D(
        self,
        filters,
        kernel,
        *,
        strides,
        padding,
        use_bias,
        data_format,
        kernel_initializer,
    ) -> Layer:
        del data_format, kernel_initializer

        def convolve(x: Tensor) -> Tensor:
            weight = self.weight([kernel, kernel, x.shape[-1], filters])
            y = tf.nn.conv2d(x, weight, strides, padding.upper())
            return y + self.vector("bias", filters, 0.0) if use_bias else y

        return convolve

    def DepthwiseConv2D(
        self,
        kernel,
        *,
        strides,
        padding,
        use_bias,
        data_format,
        depthwise_initializer,
    ) -> Layer:
        # No network has a bias.
        del use_bias, data_format, depthwise_initializer

        def convolve(x: Tensor) -> Tensor:
            weight = self.weight([kernel, kernel, x.shape[-1], 1])
            steps = [1, strides, strides, 1]
            return tf.nn.depthwise_conv2d(x, weight, steps, padding.upper())

        return convolve

    def GlobalAveragePooling2D(self, data_format: str, keepdims: bool) -> Layer:
        del data_format
        return lambda x: tf.reduce_mean(x, [1, 2], keepdims=keepdims)

    def Activation(self, name: str) -> Layer:
        return {"swish": tf.nn.silu, "sigmoid": tf.sigmoid}[name]

    def Add(self) -> Layer:
        return lambda xs: xs[0] + xs[1]

    def Multiply(self) -> Layer:
        return lambda xs: xs[0] * xs[1]

    def norm_act(self, activation: bool = True) -> Layer:
        """Returns the layer at one place."""
        # An affine could be part of the preceding convolution: it would cost
        # time in every step without changing the set of functions.
        return self._site if activation else lambda x: x

    def _site(self, x: Tensor) -> Tensor:
        """Applies the layer under test, with its own weights."""
        channels = x.shape[-1]
        values = {
            name: self.vector(name, channels, initial)
            for name, initial in (
                ("gamma", 1.0),
                ("beta", 0.0),
                *((w.name, w.initial) for w in self._row.weights),
            )
        }
        statistics = self._row.kernel.statistics
        if self.rng is not None:  # Drawing: only the shape matters.
            self.drawn_moving += [
                np.full(channels, initial, np.float32)
                for _, initial in statistics
            ]
            return x
        grouped = self._row.grouped
        plan = Plan(
            kernel=self._row.kernel,
            settings=settings.get().resolved(backend.accelerated()).plain(),
            groups=math.gcd(self._groups, channels) if grouped else 1,
        )
        if not self._training:
            moving = {name: next(self.moving) for name, _ in statistics}
            return self._compute(plan, x, values, moving)[0]
        y, fresh = self._compute(plan, x, values, None)
        self.fresh += [fresh[name] for name, _ in statistics]
        return y


def _resnet(width: int) -> nets.Size:
    """Pre-activation bottleneck ResNet: 3 blocks, 10 sites."""
    return resnet.Size(
        depths=(1, 1, 1),
        filters=(width, 2 * width, 4 * width),
        strides=(1, 2, 2),
        stem="cifar",
        stem_filters=width,
    )


def _mobilenet(width: int, excitation: float = 0.0) -> nets.Size:
    """MobileNetV2-like: 3 inverted bottlenecks, 8 sites."""
    return mobile.Size(
        stages=tuple(
            mobile.Stage(1, 3, stride, expansion=4, filters=filters)
            for stride, filters in ((1, width), (2, 2 * width), (2, 3 * width))
        ),
        stem_filters=width,
        stem_stride=1,
        head_filters=8 * width,
        excitation=excitation,
    )


def _efficientnet(width: int) -> nets.Size:
    """EfficientNet-like: the same with squeeze-excitation, 8 sites."""
    return _mobilenet(width, excitation=0.5)


ANCHORS: dict[str, Callable[[int], nets.Size]] = {
    "resnet": _resnet,
    "mobilenet": _mobilenet,
    "efficientnet": _efficientnet,
}
