"""Validation of a layer's arguments and inputs, for any backend."""

import inspect
import numbers
import sys
from collections.abc import Mapping
from typing import Any

from evonorm_tf.catalog import Row
from evonorm_tf.errors import did_you_mean, is_number

PAPER_GROUPS = 32


def resolve_groups(
    channels: int,
    groups: int | None = None,
    group_size: int | None = None,
    min_group_size: int = 1,
) -> int:
    """Returns the number of channel groups of a layer.

    Args:
      channels: C.
      groups: a divisor of C; None for 32, lowered one by one until it divides
        C, as in the authors' code.
      group_size: channels per group, the alternative to `groups`.
      min_group_size: with `groups=None`, the number is lowered further until
        each group has at least this many channels, or all of them. In a narrow
        layer 32 groups would have one channel each, which makes S0 an instance
        norm.

    Raises:
      ValueError: if no such grouping exists.
    """
    if groups is not None and group_size is not None:
        raise ValueError(
            "Give `groups` or `group_size`, not both. "
            f"Received: groups={groups}, group_size={group_size}"
        )
    if group_size is not None:
        if channels % group_size:
            raise ValueError(
                f"`group_size` must divide the {channels} channels. "
                f"Received: group_size={group_size}"
            )
        return channels // group_size
    if groups is not None:
        if channels % groups:
            raise ValueError(
                f"`groups` must divide the {channels} channels; groups=None "
                f"chooses a number that does. Received: groups={groups}"
            )
        return groups
    largest = min(PAPER_GROUPS, max(channels // min_group_size, 1))
    return next(g for g in range(largest, 0, -1) if channels % g == 0)


def count(name: str, value: Any, optional: bool = True) -> int | None:
    """Returns a positive integer as an int; None if it is optional."""
    if value is None and optional:
        return None
    if not is_number(numbers.Integral, value) or value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}"
        )
    return int(value)


def open_interval(name: str, value: Any) -> float:
    """Returns a number between 0 and 1 as a float."""
    if not is_number(numbers.Real, value) or not 0.0 < value < 1.0:
        raise ValueError(
            f"`{name}` must be a number between 0 and 1, both exclusive. "
            f"Received: {name}={value!r}"
        )
    return float(value)


def check_options(options: Mapping[str, Any], function: Any) -> None:
    """Rejects unknown arguments of the layer, suggesting similar ones."""
    known = {*inspect.signature(function).parameters} - {"self", "options"}
    for name, value in options.items():
        if name not in ("input_shape", "batch_input_shape"):
            raise TypeError(
                f"Unknown argument. {did_you_mean(name, known)}"
                f"help(NormAct) describes them. Received: {name}={value!r}"
            )


def check_flag(name: str, value: Any) -> None:
    """Checks that an argument is a bool."""
    if not isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be True or False (the layer's name selects the "
            f"activation). Received: {name}={value!r}"
        )


def check_initializer(name: str, value: Any) -> None:
    """Checks an initializer; for None a Keras would draw at random."""
    if value is None:
        raise ValueError(
            f"`{name}` must be an initializer, such as 'ones' or 'zeros'; "
            "affine=False leaves gamma and beta out. "
            f"Received: {name}=None"
        )


def channel_axis(axis: Any) -> int:
    """Returns the channel axis as an int."""
    if not is_number(numbers.Integral, axis) or axis not in (-1, 1):
        raise ValueError(
            "`axis` must be the channel axis, -1 (channels last) or 1 "
            f"(channels first). Received: axis={axis!r}"
        )
    return int(axis)


def check_rank(row: Row, rank: int | None) -> None:
    """Checks that a layer is defined for an input's rank."""
    least = row.min_rank
    if rank is None or not least <= rank <= 5:
        shapes = ["[N, C]", "[N, S, C]", "[N, H, W, C]", "[N, D, H, W, C]"]
        raise ValueError(
            f"{row.name} is defined for inputs of rank {least} to 5: "
            f"{' or '.join(shapes[least - 2 :])}. Received: rank={rank}"
        )


def dtype_name(x: Any) -> str | None:
    """Returns the dtype name of any array; None if it has no dtype."""
    dtype = getattr(x, "dtype", None)
    return None if dtype is None else str(getattr(dtype, "name", dtype))


def check_array(x: Any) -> None:
    """Checks that an input is one array of a floating dtype.

    Symbolic inputs would otherwise be cast, and a list of arrays stacked to one
    of another rank.
    """
    if isinstance(x, list | tuple | Mapping):
        raise TypeError(
            "Expected one array, such as [N, H, W, C]. "
            f"Received: a {type(x).__name__} of {len(x)}"
        )
    name = dtype_name(x)
    if name is not None and not name.startswith(("float", "bfloat")):
        raise TypeError(
            "Expected a floating-point input; cast it first. "
            f"Received: dtype={name}"
        )


def check_channels(x: Any, axis: int, channels: int) -> None:
    """Checks the channels; weights of shape [1] would broadcast silently."""
    shape = getattr(x, "shape", None)
    if shape is None or len(shape) <= abs(axis):
        return  # The check of the rank rejects an input without that axis.
    if shape[axis] not in (None, channels):
        raise ValueError(
            f"This layer was built for {channels} channels on axis {axis}. "
            f"Received: shape={tuple(shape)}"
        )


def check_shape(row: Row, x: Any) -> None:
    """Checks the rank of an array, and that it is not empty."""
    try:
        shape = tuple(x.shape)
    except ValueError:  # A TensorFlow tensor of unknown rank.
        shape = None
    check_rank(row, None if shape is None else len(shape))
    if 0 in shape[1:]:
        raise ValueError(
            "An input without pixels or channels has no statistics. "
            f"Received: shape={shape}"
        )


def check_no_conditional(given: Mapping[str, Any]) -> None:
    """Rejects gamma and beta for a layer that has its own."""
    if given:
        found = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ValueError(
            "gamma and beta at call time need a layer with affine=False. "
            f"Received: affine=True and {found}"
        )


def check_conditional(
    name: str, value: Any, shape: tuple[int | None, int]
) -> None:
    """Checks gamma or beta [N, C] that are passed to `call`."""
    received = tuple(value.shape)
    known = len(received) == 2 and all(
        None in (size, expected) or size == expected
        for size, expected in zip(received, shape)
    )
    if not known:
        raise ValueError(
            f"{name} at call time must be [N, C] = {list(shape)}. "
            f"Received: shape={received}"
        )


def check_home(layer: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    """Rejects a call from the other Keras, which would not track the weights.

    Args:
      layer: has the attributes `_foreign`, the root module of the other
        Keras, and `_remedy`.
      args: positional arguments of the call.
      kwargs: keyword arguments of the call.
    """
    foreign = layer._foreign
    message = f"A layer of {type(layer).__module__} was called "
    for value in (*args, *kwargs.values()):
        if type(value).__module__.split(".")[0] == foreign:
            raise TypeError(
                f"{message}on a {foreign} tensor. {layer._remedy} "
                f"Received: {value!r}"
            )
    if _in_call(foreign):
        raise TypeError(
            f"{message}inside a {foreign} model. {layer._remedy} "
            f"Received: {layer.name!r}"
        )


def _in_call(keras: str) -> bool:
    """Returns whether a layer or model of "keras" or "tf_keras" is called.

    Eager tensors of both look alike; only the caller distinguishes them. This
    inspects imported modules and imports none.
    """
    # Neither Keras has a public name for the call under way. Where a release
    # renames these, `check_home` only finds tensors of the other Keras.
    if keras == "tf_keras":
        utils = sys.modules.get("tf_keras.src.engine.base_layer_utils")
        return utils is not None and bool(utils.call_context().in_call)
    state = sys.modules.get("keras.src.backend.common.global_state")
    if state is None:
        return False
    return state.get_global_attribute("current_call_ctx") is not None
