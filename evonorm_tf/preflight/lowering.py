"""Lowers a training step of TensorFlow to one StableHLO module.

`lower` traces a function, lowers it with TensorFlow's XLA bridge, and
determines its parameters and results. Parameters are the inputs, followed by
what the function captures (mainly variables); results are the returned values,
followed by the variables that it changed. TensorFlow defines this order; the
updates are read from the module's input-output aliasing.

The step is traced for another device, so sums are plain reductions and moments
take one pass (docs/design.md): a product with ones would run in reduced
precision on a TPU.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from evonorm_tf import versions
from evonorm_tf.ops import settings
from evonorm_tf.preflight.module import Module, Value

_ALIAS = re.compile(
    r"parameter_number = (\d+) : i64\}, output_index = array<i64(?:: (\d+))?>"
)
_MASK = re.compile(r'dense<"0x([0-9A-F]+)"> : tensor<((?:\d+x)+)i1>')
_SYMBOL = re.compile(r'@("[^"]*"|[\w.$\-]+)')
_MAIN = re.compile(r"func\.func (?:public )?@main\((.*?)\) -> ", re.S)
_OPERATION = re.compile(r"No registered '(\w+)'")


@dataclasses.dataclass(frozen=True)
class Held:
    """A variable or tensor that a function captures.

    Attributes:
      value: its name, shape and dtype.
      tensor: the tensor, or the variable's handle. Two steps that share a
        variable have the same object.
    """

    value: Value
    tensor: tf.Tensor


def lower(
    function: Callable[..., Any], *inputs: Any
) -> tuple[Module, list[Held]]:
    """Lowers a step to StableHLO.

    Args:
      function: a Python function or `tf.function` of `inputs` that returns
        tensors and may read and change variables.
      *inputs: tensors, arrays or `tf.TensorSpec`s with static shapes.

    Returns:
      The module, and the captured objects of its `state`.

    Raises:
      ValueError: if a shape is not static, or if XLA lacks an operation; the
        message names it.
      ImportError: if TensorFlow is too old.
    """
    versions.check_minimum(
        "tensorflow", tf.__version__, versions.STABLEHLO, "Preflight"
    )
    specs = [_spec(value) for value in inputs]
    # A tf.function that was traced before keeps its settings.
    function = getattr(function, "python_function", function)
    compiled = tf.function(function, jit_compile=True, autograph=False)
    with settings.using(reduction="sum", moments="one_pass"):
        concrete = compiled.get_concrete_function(*specs)
        try:
            emit = compiled.experimental_get_compiler_ir(*specs)
            text = emit(stage="stablehlo")
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(_explain(error)) from error
    held = _captured(concrete)
    state = tuple(each.value for each in held)
    outputs = tuple(
        _value(f"output_{i}", tensor)
        for i, tensor in enumerate(tf.nest.flatten(concrete.outputs))
        if tensor is not None
    )
    module = Module(
        clean(text),
        tuple(_value(s.name or f"input_{i}", s) for i, s in enumerate(specs)),
        state,
        outputs,
        _updates(text, len(specs), len(outputs)),
    )
    _check_signature(module)
    return module, held


def clean(text: str) -> str:
    """Removes locations and counters from StableHLO, for other compilers.

    The XLA bridge leaves `mhlo.copy` behind, which no other parser knows; an
    optimization barrier has the same effect. It packs large boolean constants
    eight to a byte, whereas others read one per byte. Functions are renamed in
    their order, because TensorFlow names them after layers that it counts.
    The result is equal for equal programs, whatever was traced before.
    """
    lines = [
        _strip_location(line)
        for line in text.splitlines()
        if not line.startswith("#loc")
    ]
    text = "\n".join(lines) + "\n"
    text = text.replace("mhlo.copy", "stablehlo.optimization_barrier")
    text = _MASK.sub(_unpack, text)
    names: dict[str, str] = {}

    def rename(match: re.Match) -> str:
        if match[1] == "main":
            return match[0]
        return "@" + names.setdefault(match[1], f"f{len(names)}")

    return _SYMBOL.sub(rename, text)


def _unpack(match: re.Match) -> str:
    """Unpacks a boolean constant from one bit per element to one byte."""
    count = math.prod(int(size) for size in match[2].split("x")[:-1])
    packed = np.frombuffer(bytes.fromhex(match[1]), np.uint8)
    if packed.size == count:
        return match[0]
    bits = np.unpackbits(packed, count=count, bitorder="little")
    shape = match[2]
    return f'dense<"0x{bits.tobytes().hex().upper()}"> : tensor<{shape}i1>'


def _strip_location(line: str) -> str:
    """Removes every `loc(...)`, with nested parentheses."""
    parts, rest = [], line
    while (start := rest.find(" loc(")) >= 0:
        depth, quoted, end = 0, False, start + 4
        for end in range(start + 4, len(rest)):
            letter = rest[end]
            quoted ^= letter == '"'
            if not quoted:
                depth += (letter == "(") - (letter == ")")
                if not depth:
                    break
        parts.append(rest[:start])
        rest = rest[end + 1 :]
    return "".join([*parts, rest])


def _spec(value: Any) -> tf.TensorSpec:
    if not isinstance(value, tf.TensorSpec):
        value = tf.TensorSpec.from_tensor(tf.convert_to_tensor(value))
    if not value.shape.is_fully_defined():
        raise ValueError(
            "Every dimension of an input must be static, because a program is "
            f"compiled for one size. Received: {value.name}={value.shape}"
        )
    return value


def _captured(concrete: Any) -> list[Held]:
    """Returns what a function captured, in the order of its parameters."""
    names = {id(v.handle): v.name for v in concrete.variables}
    held = []
    for index, tensor in enumerate(concrete.captured_inputs):
        # An optimizer's fused kernels capture a slot by its handle, which a
        # function's list of variables does not include.
        name = names.get(id(tensor), f"state_{index}").removesuffix(":0")
        held.append(Held(_described(name, tensor), tensor))
    return held


def _described(name: str, tensor: tf.Tensor) -> Value:
    if tensor.dtype != tf.resource:
        return _value(name, tensor)
    (kind,) = tensor._handle_data.shape_and_type
    shape = tuple(side.size for side in kind.shape.dim)
    return Value(name, shape, tf.as_dtype(kind.dtype).name)


def _value(name: str, tensor: Any) -> Value:
    dtype = tf.as_dtype(tensor.dtype).name
    return Value(name, tuple(tensor.shape.as_list()), dtype)


def _updates(text: str, inputs: int, outputs: int) -> tuple[int, ...]:
    """Returns the state that each further result updates, by the aliasing."""
    renewed = {
        int(result or 0): int(parameter) - inputs
        for parameter, result in _ALIAS.findall(text)
    }
    indices = sorted(renewed)
    expected = list(range(outputs, outputs + len(indices)))
    if indices != expected:
        raise ValueError(
            "The module's aliasing does not follow its outputs, so its "
            f"updates are unknown. Received: aliased results={indices}, "
            f"expected {expected}"
        )
    return tuple(renewed[index] for index in indices)


def _check_signature(module: Module) -> None:
    """Checks that the parameters of @main are the expected ones."""
    signature = _MAIN.search(module.text)
    found = signature.group(1).count("%arg") if signature else 0
    expected = len(module.inputs) + len(module.state)
    if found != expected:
        raise ValueError(
            "The parameters of the StableHLO module differ from those of the "
            f"function. Received: {found} parameters, expected {expected} "
            f"({len(module.inputs)} inputs, {len(module.state)} captured)"
        )


def _explain(error: Exception) -> str:
    message = str(error)
    operations = sorted(set(_OPERATION.findall(message)))
    if not operations:
        return f"The step cannot be lowered to StableHLO: {message}"
    created = re.search(r"The op is created at:\s*\n(.*?)\n\t", message, re.S)
    where = created.group(1).strip().splitlines()[-1] if created else "unknown"
    return (
        "The step uses operations that XLA cannot compile, so no TPU can run "
        f"it. Move them elsewhere, into the input pipeline for example. "
        f"Received: operations={operations}, created at {where.strip()}"
    )
