"""All layer logic: weights, moving statistics, casts, validation.

Imports no Keras. `layers.NormAct` and `legacy.NormAct` add a base class and
how it makes a weight.
"""

import math
from typing import Any

import tensorflow as tf

from evonorm_tf import catalog, validation
from evonorm_tf.ops import gradient, plain
from evonorm_tf.ops import settings as settings_lib
from evonorm_tf.ops.plan import Plan

Tensor = tf.Tensor


class NormActMixin:
    """Normalization and activation in one layer.

    Takes the place of a normalization layer and the activation after it, in
    a functional, sequential or subclassed model.

    Weights, [C] each: `gamma` and `beta` (with `affine`), `v` (rows that have
    one), and the moving statistics of rows over the batch
    (`moving_variance`, for BatchNorm `moving_mean` too), which are not
    trainable. They are float32 in mixed precision, and so is all arithmetic.

    Args:
      name_or_row: a name of `evonorm_tf.names()`, or a catalog row.
      groups: channel groups, a divisor of C; None for 32 lowered until it
        divides. Rows without groups ignore the three group arguments.
      group_size: channels a group, instead of `groups`.
      min_group_size: with `groups=None`, the fewest channels a group may
        have.
      momentum: decay of the moving statistics, in (0, 1).
      epsilon: stands inside every square root.
      activation: False leaves the activation out: EvoNorms become a plain
        affine, x * gamma + beta, without statistics (as in the authors'
        code); baselines normalise and do not activate.
      affine: False for no gamma and beta; `call` then takes class-conditional
        ones, [N, C].
      gamma_initializer: of gamma; "zeros" at the end of a residual branch.
      beta_initializer: of beta.
      synchronized: pool batch statistics over the replicas of a strategy.
      axis: the channel axis, -1 or 1.
      xla: "auto" compiles the computation in training (never at inference),
        False does not.
      name: of the layer.
      dtype: dtype or dtype policy.
      trainable: False freezes weights and moving statistics; rows over the
        batch then use the latter in training too.

    Raises:
      ValueError: for arguments, or at build time channels, that do not fit.
      TypeError: for an input of another Keras or of integers.
    """

    # Set by the two classes: the root module of tensors that the layer must
    # not be called on, the remedy, and their Keras's initializers.
    _foreign: str
    _remedy: str
    _initializers: Any

    def __init__(
        self,
        name_or_row: Any,
        groups: int | None = None,
        *,
        group_size: int | None = None,
        min_group_size: int = 1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        activation: bool = True,
        affine: bool = True,
        gamma_initializer: Any = "ones",
        beta_initializer: Any = "zeros",
        synchronized: bool = False,
        axis: int = -1,
        xla: str | bool = "auto",
        name: str | None = None,
        dtype: Any = None,
        trainable: bool = True,
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        self.row = catalog.get(name_or_row)
        self.groups = validation.count("groups", groups)
        self.group_size = validation.count("group_size", group_size)
        self.min_group_size = validation.count(
            "min_group_size", min_group_size, optional=False
        )
        self.momentum = validation.open_interval("momentum", momentum)
        self.epsilon = validation.open_interval("epsilon", epsilon)
        validation.check_axis(axis)
        validation.check_flag("activation", activation)
        validation.check_flag("affine", affine)
        validation.check_flag("synchronized", synchronized)
        settings_lib.check("xla", xla)
        self.activation, self.affine = activation, affine
        self.gamma_initializer = self._initializers.get(gamma_initializer)
        self.beta_initializer = self._initializers.get(beta_initializer)
        self.synchronized, self.axis, self.xla = synchronized, axis, xla

    @property
    def _active(self) -> catalog.Row:
        if self.activation:
            return self.row
        return self.row.without_activation or self.row

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        validation.check_home(self, args, kwargs)
        inputs = args[0] if args else kwargs.get("inputs")
        validation.check_dtype(inputs)
        if self.built:
            validation.check_channels(inputs, self.axis, self._channels)
        return super().__call__(*args, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Makes the weights, [C] each, and fixes the groups."""
        shape = tuple(input_shape)
        validation.check_rank(self._active, len(shape))
        channels = shape[self.axis]
        if channels is None:
            raise ValueError(
                "The number of channels must be known when the layer is "
                f"built. Received: shape={shape}, axis={self.axis}"
            )
        self._groups = 1
        if self._active.grouped:
            self._groups = validation.resolve_groups(
                channels, self.groups, self.group_size, self.min_group_size
            )
        if self.affine:
            self.gamma = self._weight("gamma", channels, self.gamma_initializer)
            self.beta = self._weight("beta", channels, self.beta_initializer)
        for name, initial in self._active.weights:
            constant = self._initializers.Constant(initial)
            setattr(self, name, self._weight(name, channels, constant))
        for name, initial in self._active.kernel.statistics:
            constant = self._initializers.Constant(initial)
            moving = self._weight(name, channels, constant, trainable=False)
            setattr(self, name, moving)
        self._channels = channels
        self.built = True

    def call(
        self,
        inputs: Tensor,
        gamma: Tensor | None = None,
        beta: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        """Applies the layer.

        Args:
          inputs: [N, H, W, C] or [N, D, H, W, C] (axis=1: [N, C, ...]).
          gamma: class-conditional gain [N, C], for `affine=False`; centre it
            at 1 (gain = 1 + linear).
          beta: class-conditional bias [N, C], likewise.
          training: batch statistics, and moving ones updated, or the moving
            ones. A frozen layer (trainable=False) uses the moving ones.

        Returns:
          A tensor like `inputs`.
        """
        x = tf.convert_to_tensor(inputs)
        validation.check_shape(self._active, x)
        parameters = self._parameters(gamma, beta, x)
        training = self._training(training)
        plan = self._plan(tuple(parameters), training)
        flat = _flatten(x, plan.space)
        if training:
            y, fresh = gradient.train(flat, parameters, plan)
            self._move(fresh, x)
        else:
            statistics = self._active.kernel.statistics
            moving = {n: self._value(getattr(self, n)) for n, _ in statistics}
            y = plain.infer(flat, parameters, moving, plan)
        y = tf.reshape(y, tf.shape(x))
        y.set_shape(x.shape)
        return y

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the input."""
        return input_shape

    def _training(self, training: Any) -> bool:
        if tf.is_tensor(training):
            static = tf.get_static_value(training)
            if static is None:
                raise TypeError(
                    "`training` must be known when the layer is traced: a "
                    f"Python bool. Received: training={training!r}"
                )
            training = static
        frozen = not self.trainable and self._active.kernel.statistics
        return bool(training) and not frozen

    def _plan(self, names: tuple[str, ...], training: bool) -> Plan:
        form = settings_lib.resolved()
        if not training:
            form = settings_lib.plain(form)
        return Plan(
            kernel=self._active.kernel,
            parameters=names,
            form=form,
            epsilon=self.epsilon,
            groups=self._groups,
            space=1 if self.axis == -1 else 2,
            synchronized=self.synchronized,
            xla=self.xla == "auto" and form.xla == "auto" and training,
        )

    def _parameters(self, gamma, beta, x: Tensor) -> dict[str, Tensor]:
        given = {"gamma": gamma, "beta": beta}
        given = {k: v for k, v in given.items() if v is not None}
        for name, value in given.items():
            validation.check_conditional(
                name, value, self.affine, (x.shape[0], x.shape[self.axis])
            )
        if self.affine:
            given = {"gamma": self.gamma, "beta": self.beta}
        for name, _ in self._active.weights:
            given[name] = getattr(self, name)
        return {k: self._value(v) for k, v in given.items()}

    def _move(self, fresh: dict[str, Tensor], x: Tensor) -> None:
        # Pooled statistics hold for every replica, a replica's own for none
        # that has no sample: it writes the old value.
        known = self.synchronized or tf.shape(x)[0] > 0
        for name, value in fresh.items():
            moving = getattr(self, name)
            old = self._value(moving)
            change = (tf.cast(value, old.dtype) - old) * (1.0 - self.momentum)
            moving.assign(tf.where(known, old + change, old))

    def _weight_dtype(self) -> str:
        return "float64" if self.variable_dtype == "float64" else "float32"

    @staticmethod
    def _value(weight: Any) -> Tensor:
        # Variables become tensors here: a compiled function that captures a
        # variable fails on a second device.
        return tf.convert_to_tensor(weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        config["name_or_row"] = catalog.spec(self.row)
        names = (
            "groups group_size min_group_size momentum epsilon activation "
            "affine synchronized axis xla"
        )
        config.update({name: getattr(self, name) for name in names.split()})
        for name in ("gamma_initializer", "beta_initializer"):
            value = self._initializers.serialize(getattr(self, name))
            config[name] = value
        return config


def _flatten(x: Tensor, space: int) -> Tensor:
    """[N, H, W, C] -> [N, S, C], or [N, C, H, W] -> [N, C, S]."""
    static = x.shape[1:-1] if space == 1 else x.shape[2:]
    channels = x.shape[-1] if space == 1 else x.shape[1]
    size = -1
    if static.is_fully_defined():
        size = math.prod(static)
    batch = x.shape[0]
    if batch is None:
        batch = -1 if size != -1 else tf.shape(x)[0]
    shape = [batch, size, channels] if space == 1 else [batch, channels, size]
    return tf.reshape(x, shape)
