"""A train step of TensorFlow as one StableHLO module.

`lower` traces a function, has TensorFlow's XLA bridge write it as StableHLO
and works out what its parameters and results are: the inputs in order, then
what the function captures (variables above all); the returned values, then
the variables that it changed. That order is TensorFlow's; the updates are
read off the module's input-output aliasing.

What is traced here is for another device, so sums are plain reductions and
moments take one pass (docs/design.md): a product with ones would run in
reduced precision on a TPU.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

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
    """Something outside a function that it reads: a variable or a tensor.

    Attributes:
      value: its name, shape and dtype.
      tensor: the tensor, or the variable's handle. Two steps that share a
        variable hold the same object.
    """

    value: Value
    tensor: tf.Tensor


def lower(
    function: Callable[..., Any], *inputs: Any
) -> tuple[Module, list[Held]]:
    """Writes a step as StableHLO.

    Args:
      function: takes `inputs`, returns tensors, may read and change
        variables; a Python function or a `tf.function`.
      *inputs: tensors, arrays or `tf.TensorSpec`s, every dimension known.

    Returns:
      The module, and what is behind its `state`.

    Raises:
      ValueError: a shape that is not known, or an operation that XLA lacks;
        the message names it.
    """
    specs = [_spec(value) for value in inputs]
    # A tf.function that was traced before keeps the form of that time.
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
    """StableHLO without locations and counters, as other compilers read it.

    The XLA bridge leaves `mhlo.copy` behind, which no other parser knows; an
    optimization barrier is the same promise. Large boolean constants it packs
    eight to a byte, where others read a byte each. Functions are named in
    their order, for TensorFlow names them after layers that it counts. What
    remains is equal for equal programs, whatever was traced before.
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
    """A boolean constant with a byte an element, if it has a bit each."""
    count = math.prod(int(size) for size in match[2].split("x")[:-1])
    packed = np.frombuffer(bytes.fromhex(match[1]), np.uint8)
    if packed.size == count:
        return match[0]
    bits = np.unpackbits(packed, count=count, bitorder="little")
    shape = match[2]
    return f'dense<"0x{bits.tobytes().hex().upper()}"> : tensor<{shape}i1>'


def _strip_location(line: str) -> str:
    """Removes every `loc(...)`, whose parentheses may nest."""
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
            "Every dimension of an input must be known: one program is "
            f"compiled for one size. Received: {value.name}={value.shape}"
        )
    return value


def _captured(concrete: Any) -> list[Held]:
    """What a function captured, in the order of its parameters."""
    names = {id(v.handle): v.name for v in concrete.variables}
    held = []
    for index, tensor in enumerate(concrete.captured_inputs):
        # An optimizer's fused kernels take a slot by its handle, unseen by
        # what counts a function's variables.
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
    """State renewed by each result after the outputs, from the aliasing."""
    renewed = {
        int(result or 0): int(parameter) - inputs
        for parameter, result in _ALIAS.findall(text)
    }
    indices = sorted(renewed)
    expected = list(range(outputs, outputs + len(indices)))
    if indices != expected:
        raise ValueError(
            "The module's aliasing does not follow its outputs, so its "
            f"updates cannot be told. Received: aliased results={indices}, "
            f"expected {expected}"
        )
    return tuple(renewed[index] for index in indices)


def _check_signature(module: Module) -> None:
    """The parameters of @main must be what was worked out."""
    signature = _MAIN.search(module.text)
    found = signature.group(1).count("%arg") if signature else 0
    expected = len(module.inputs) + len(module.state)
    if found != expected:
        raise ValueError(
            "The StableHLO module takes other parameters than the function "
            f"has. Received: {found} parameters, expected {expected} "
            f"({len(module.inputs)} inputs, {len(module.state)} captured)"
        )


def _explain(error: Exception) -> str:
    message = str(error)
    operations = sorted(set(_OPERATION.findall(message)))
    if not operations:
        return f"The step cannot be written as StableHLO: {message}"
    created = re.search(r"The op is created at:\s*\n(.*?)\n\t", message, re.S)
    where = created.group(1).strip().splitlines()[-1] if created else "unknown"
    return (
        "The step uses operations that XLA cannot compile, so no TPU can run "
        f"it. Take them out of the step, into the input pipeline for example. "
        f"Received: operations={operations}, created at {where.strip()}"
    )
