"""The logic of the layer: weights, moving statistics, casts, validation.

Imports no Keras. `layers.NormAct` and `legacy.NormAct` add a base class, a
backend and how a weight is created.
"""

import math
from types import ModuleType
from typing import Any

# Importing graphs registers its resolver with the catalog.
from evonorm_tf import catalog, graphs, validation  # noqa: F401
from evonorm_tf.ops import settings as settings_lib
from evonorm_tf.ops.kernel import Plan

Array = Any


class NormActMixin:
    """Normalization and activation in one layer.

    Use it instead of a normalization layer and the activation after it, in a
    functional, sequential or subclassed model.

    The weights are [C] each: `gamma` and `beta` (with `affine`), those of the
    layer (`v` of EvoNorm B0 and S0), and the moving statistics of layers with
    batch statistics (`moving_variance`, for BatchNorm also `moving_mean`),
    which are not trainable. In mixed precision they are float32, and so is all
    arithmetic; the input is not cast to the compute dtype first.

    Example:
        ```python
        x = keras.layers.Conv2D(64, 3, use_bias=False)(x)
        x = evonorm_tf.NormAct("evonorm_s0")(x)
        ```

    Args:
      name_or_row: a name of `evonorm_tf.names()`, or a catalog row.
      groups: number of channel groups, a divisor of C; None for 32, lowered
        until it divides C. Layers without groups ignore the three arguments.
      group_size: channels per group, instead of `groups`.
      min_group_size: with `groups=None`, the minimum number of channels per
        group.
      momentum: decay of the moving statistics, in (0, 1).
      epsilon: added inside every square root.
      activation: whether to include the activation. Without it, EvoNorms are a
        plain affine, x * gamma + beta, without statistics (as in the authors'
        code), and baselines only normalize.
      affine: whether to have gamma and beta; if False, class-conditional ones,
        [N, C], are passed to `call`.
      gamma_initializer: initializer of gamma; use "zeros" at the end of a
        residual branch.
      beta_initializer: initializer of beta.
      synchronized: whether to pool batch statistics over the replicas of a
        strategy (TensorFlow) or the shards of a batch (JAX).
      axis: the channel axis, -1 or 1.
      xla: "auto" lets TensorFlow compile the computation in training (never at
        inference), False does not. It has no effect on JAX.
      name: name of the layer.
      dtype: dtype or dtype policy.
      trainable: False freezes weights and moving statistics; layers with batch
        statistics then use the moving ones in training too.
      **options: `input_shape` or, for tf_keras, `batch_input_shape`, for the
        first layer of a sequential model.

    A mask is passed on to later layers; statistics include masked positions.

    Raises:
      ValueError: if an argument, or at build time the channels, are invalid.
      TypeError: if an argument is unknown; if the input is of another Keras, a
        list of arrays, or of an integer dtype.
    """

    # Set by the classes for each Keras: the array library, the root module of
    # tensors of the other Keras, what to use for these, and the initializers.
    _backend: ModuleType
    _foreign: str
    _remedy: str
    _initializers: Any
    # Whether Keras asks for nothing but the shape and dtype of the output.
    _described = False

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
        **options: Any,
    ):
        validation.check_options(options, NormActMixin.__init__)
        # The input may not fit the compute dtype: float32 values above 65504
        # would be infinite in float16.
        super().__init__(
            name=name,
            dtype=dtype,
            trainable=trainable,
            autocast=False,
            **options,
        )
        self.supports_masking = True
        self.row = catalog.get(name_or_row)
        self.groups = validation.count("groups", groups)
        self.group_size = validation.count("group_size", group_size)
        self.min_group_size = validation.count(
            "min_group_size", min_group_size, optional=False
        )
        self.momentum = validation.open_interval("momentum", momentum)
        self.epsilon = validation.open_interval("epsilon", epsilon)
        axis = validation.channel_axis(axis)
        validation.check_flag("activation", activation)
        validation.check_flag("affine", affine)
        validation.check_flag("synchronized", synchronized)
        settings_lib.check("xla", xla)
        self.activation, self.affine = activation, affine
        validation.check_initializer("gamma_initializer", gamma_initializer)
        validation.check_initializer("beta_initializer", beta_initializer)
        self.gamma_initializer = self._initializers.get(gamma_initializer)
        self.beta_initializer = self._initializers.get(beta_initializer)
        self.synchronized, self.axis, self.xla = synchronized, axis, xla

    def __repr__(self) -> str:
        groups = f" groups={self._groups}" if self.built else ""
        kind = type(self).__name__
        return f"<{kind} {self._active.name}{groups} name={self.name!r}>"

    @property
    def pools_replicas(self) -> bool:
        """Returns whether training averages over the replicas of a strategy."""
        pooled = self.trainable and self._active.kernel.statistics
        return self.synchronized and bool(pooled)

    @property
    def _active(self) -> catalog.Row:
        if self.activation:
            return self.row
        return self.row.without_activation or self.row

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Checks the input and applies the layer; see `call`."""
        validation.check_home(self, args, kwargs)
        inputs = args[0] if args else kwargs.get("inputs")
        validation.check_array(inputs)
        if self.built:
            validation.check_channels(inputs, self.axis, self._channels)
        return super().__call__(*args, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Creates the weights and fixes the groups."""
        shape = tuple(input_shape)
        row = self._active
        validation.check_rank(row, len(shape))
        channels = shape[self.axis]
        if channels is None:
            raise ValueError(
                "The number of channels must be known when the layer is "
                f"built. Received: shape={shape}, axis={self.axis}"
            )
        self._groups = 1
        if row.grouped:
            self._groups = validation.resolve_groups(
                channels, self.groups, self.group_size, self.min_group_size
            )
        constant = self._initializers.Constant
        per_channel = (channels,)
        if self.affine:
            self.gamma = self._weight(
                "gamma", per_channel, self.gamma_initializer
            )
            self.beta = self._weight("beta", per_channel, self.beta_initializer)
        for name, initial, scalar in row.weights:
            shape = () if scalar else per_channel
            setattr(self, name, self._weight(name, shape, constant(initial)))
        for name, initial in row.kernel.statistics:
            moving = self._weight(
                name, per_channel, constant(initial), trainable=False
            )
            setattr(self, name, moving)
        self._channels = channels
        self.built = True

    def call(
        self,
        inputs: Array,
        gamma: Array | None = None,
        beta: Array | None = None,
        training: bool | None = None,
    ) -> Array:
        """Applies the layer.

        Args:
          inputs: [N, H, W, C] or [N, D, H, W, C] (axis=1: [N, C, ...]).
          gamma: class-conditional gain [N, C], for `affine=False`; it should
            be centered at 1 (gain = 1 + linear).
          beta: class-conditional bias [N, C], likewise.
          training: if True, uses the statistics of this batch and updates the
            moving ones. Otherwise, and in a frozen layer (trainable=False),
            the moving statistics are used.

        Returns:
          An array of the shape of `inputs`, in the compute dtype.
        """
        x = self._narrowed(self._backend.tensor(inputs))
        validation.check_shape(self._active, x)
        x = self._backend.with_size(x, self.axis, self._channels)
        parameters = self._parameters(gamma, beta, x)
        training = self._training(training)
        plan = self._plan(x, training)
        flat = _flatten(self._backend.xp, x, plan.spatial_axis)
        if training:
            y, fresh, count = self._backend.train(plan, flat, parameters)
            self._move(fresh, count)
        elif self._described:
            y = self._backend.xp.cast(flat, plan.dtype)
        else:
            moving = {
                name: self._backend.tensor(getattr(self, name))
                for name, _ in self._active.kernel.statistics
            }
            y, *_ = self._backend.plain(plan, flat, parameters, moving)
        return self._backend.reshaped_like(y, x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape

    def _narrowed(self, x: Array) -> Array:
        """Casts float64 down unless the policy is float64."""
        xp = self._backend.xp
        if self.compute_dtype == "float64":
            return xp.cast(x, xp.float64)
        return xp.cast(x, xp.float32) if x.dtype == xp.float64 else x

    def _training(self, training: Any) -> bool:
        if training is not None:
            static = self._backend.static_value(training)
            if static is None:
                raise TypeError(
                    "`training` must be known when the layer is traced: a "
                    f"Python bool. Received: training={training!r}"
                )
            training = static
        frozen = not self.trainable and self._active.kernel.statistics
        return bool(training) and not frozen

    def _plan(self, x: Array, training: bool) -> Plan:
        settings, backend = settings_lib.get(), self._backend
        compiled = backend.compiles(settings, self.xla, x)
        settings = settings.resolved(backend.accelerated(), compiled)
        if not training:
            settings = settings.plain()
        return Plan(
            kernel=self._active.kernel,
            settings=settings,
            epsilon=self.epsilon,
            groups=self._groups,
            spatial_axis=1 if self.axis == -1 else 2,
            synchronized=self.synchronized,
            shards=self._data_shards(),
            xla=compiled and training,
            dtype=self.compute_dtype,
        )

    def _parameters(self, gamma, beta, x: Array) -> dict[str, Array]:
        given = {"gamma": gamma, "beta": beta}
        given = {k: v for k, v in given.items() if v is not None}
        if self.affine:
            validation.check_no_conditional(given)
            given = {"gamma": self.gamma, "beta": self.beta}
        for weight in self._active.weights:
            given[weight.name] = getattr(self, weight.name)
        found = {k: self._backend.tensor(v) for k, v in given.items()}
        if not self.affine:
            shape = (x.shape[0], x.shape[self.axis])
            for name in {"gamma", "beta"} & set(found):
                validation.check_conditional(name, found[name], shape)
        return found

    def _move(self, fresh: dict[str, Array], count: Any) -> None:
        xp = self._backend.xp
        for name, value in fresh.items():
            moving = getattr(self, name)
            old = self._backend.tensor(moving)
            change = (xp.cast(value, old.dtype) - old) * (1.0 - self.momentum)
            # An empty batch, or without synchronization an empty replica, has
            # no statistics and keeps the old ones.
            moved = xp.where(count > 0, old + change, old)
            self._backend.assign(moving, moved)

    def _data_shards(self) -> int:
        return self._backend.data_shards()

    def _weight_dtype(self) -> str:
        return "float64" if self.variable_dtype == "float64" else "float32"

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        serialize = self._initializers.serialize
        return config | {
            "name_or_row": catalog.spec(self.row),
            "groups": self.groups,
            "group_size": self.group_size,
            "min_group_size": self.min_group_size,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "activation": self.activation,
            "affine": self.affine,
            "gamma_initializer": serialize(self.gamma_initializer),
            "beta_initializer": serialize(self.beta_initializer),
            "synchronized": self.synchronized,
            "axis": self.axis,
            "xla": self.xla,
        }


class OneEntryMixin:
    """Precedes NormAct in the bases of a class for one catalog entry."""

    _entry: str

    def __init__(self, groups: int | None = None, **options: Any):
        super().__init__(self._entry, groups, **options)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["name_or_row"]
        return config


def _flatten(xp: Any, x: Array, spatial_axis: int) -> Array:
    """Flattens [N, H, W, C] -> [N, S, C], or [N, C, H, W] -> [N, C, S]."""
    sizes = list(x.shape)
    channels = sizes.pop(-1 if spatial_axis == 1 else 1)
    batch, *space = sizes
    size = -1 if None in space else math.prod(space)
    if batch is None:
        batch = xp.shape(x)[0] if size == -1 else -1
    shape = [batch, channels]
    shape.insert(spatial_axis, size)
    return xp.reshape(x, shape)
