"""Writes an export, reads it back and compares it with the model."""

import numbers
import pathlib
import re
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from evonorm_tf.errors import is_number
from evonorm_tf.exporting import formats

# In 16 bits, folded operations are rounded differently: by 2^-9 in bfloat16,
# and the errors of tens of layers add up.
_HALVES, _OF_HALVES = {"float16", "bfloat16"}, 2e-2
# Of TensorFlow Lite's converter and of ONNX Runtime.
_LACKING = re.compile(
    r"(?:No Op registered for |find an implementation for |'tf\.(?=\w+' op is "
    r"neither a custom op))(\w+)"
)
_RUNS, _SECONDS = 20, 2.0  # At most, to measure a latency.


class Checked(NamedTuple):
    """An export that was compared with its model.

    Attributes:
      difference: the largest difference between an output and the model's,
        relative to the largest output.
      tolerance: the largest difference that would have been accepted.
      size: in bytes.
      milliseconds: latency of one image; see `latency`.
    """

    difference: float
    tolerance: float
    size: int
    milliseconds: float


def check_tolerance(tolerance: Any) -> None:
    """Checks a tolerance: a number that is not negative, or None.

    Raises:
      ValueError: if it is anything else.
    """
    if tolerance is None:
        return
    # Not `tolerance < 0`, which is False for NaN.
    if not is_number(numbers.Real, tolerance) or not tolerance >= 0:
        raise ValueError(
            "`tolerance` must be a number of at least 0, the largest relative "
            f"difference, or None. Received: tolerance={tolerance!r}"
        )


def write(
    name: str,
    source: formats.Source,
    path: pathlib.Path,
    expected: tuple[Any, formats.Outputs],
    tolerance: float | None = None,
) -> Checked:
    """Writes a format, reads it back and compares the outputs.

    Args:
      name: one of `formats.FORMATS`.
      source: the model to export.
      path: a temporary location; the caller moves the export from there if it
        was accepted.
      expected: images [N, H, W, C], or arrays by the names of the inputs if
        there are several (for "keras", in the model's structure), and the
        model's outputs to compare with.
      tolerance: None for that of the format, raised to 2e-2 if the model
        computes in 16 bits.

    Raises:
      ValueError: an output differs by more than the tolerance, or the format
        does not support the model's dtype or operations.
      ImportError: the format needs a package that is not installed.
    """
    check_tolerance(tolerance)
    chosen = formats.FORMATS[name]
    if tolerance is None:
        tolerance = chosen.tolerance
        if _HALVES.intersection(_other_dtypes(source)):
            tolerance = max(tolerance, _OF_HALVES)
    images, wanted = expected
    try:
        chosen.write(source, path)
        run = chosen.read(path)
        got = run(images)
    except (ImportError, OSError):
        raise  # Of a missing package or a full disk, not of the model.
    except Exception as failure:
        if source.serve is None:
            raise
        specs = tf.nest.flatten(source.serve.input_signature)
        if unknown_size(specs):
            raise ValueError(unknown_size(specs)) from failure
        other, lacking = _other_dtypes(source), _lacking(failure)
        if lacking and not other:
            raise ValueError(
                f"The {name} export failed, because the format or its runtime "
                f"lacks an operation: {', '.join(lacking)}. Compute it from "
                "others in the model, or export a SavedModel. "
                f"Received: format={name!r}"
            ) from failure
        if not other:
            raise
        raise ValueError(
            f"The {name} export failed, most likely because of the model's "
            "dtype: runtimes of this format support few operations outside "
            "float32. Build the model again in float32 (with Keras's policy "
            "'float32') and copy the weights, "
            "new.set_weights(model.get_weights()); or export a SavedModel. "
            f"Received: format={name!r}, a model with {', '.join(other)}"
        ) from failure
    error = _difference(wanted, got)
    # Not `error > tolerance`, which is False for NaN.
    if not error <= tolerance:
        raise ValueError(
            f"The {name} export differs from the model: by {error:.1e} of "
            f"the largest output, expected at most {tolerance:.0e}. It was "
            "discarded; an earlier export is unchanged. To accept the "
            f"difference, set `tolerance`. {_if_sensitive(run, images, error)}"
            f"Received: format={name!r}"
        )
    one = tf.nest.map_structure(lambda value: value[:1], images)
    took = milliseconds(run, one)
    return Checked(error, tolerance, size(path), took)


def _lacking(failure: Exception) -> list[str]:
    """Returns the operations that a converter or runtime says it lacks."""
    return sorted(set(_LACKING.findall(str(failure))))


def unknown_size(specs: Iterable[tf.TensorSpec]) -> str:
    """Returns how to fix a failed export of unknown input sizes, or "".

    Args:
      specs: those of the model's inputs.
    """
    unknown = [
        f"{spec.name} {list(spec.shape)}"
        for spec in specs
        if None in spec.shape[1:]
    ]
    if not unknown:
        return ""
    return (
        "The export failed, most likely because the model's input has no "
        "fixed size. Fix it: "
        "images = keras.Input((256, 256, 3)); "
        "export(keras.Model(images, model(images)), ...). "
        f"Received: inputs {', '.join(unknown)}"
    )


def _other_dtypes(source: formats.Source) -> list[str]:
    """Returns the floating dtypes that a model computes in, but float32."""
    if source.serve is None:
        layers = source.model._flatten_layers()
        names = {x.compute_dtype for x in layers} - {None}
        found = {tf.as_dtype(name) for name in names}
    else:
        graph = source.serve.get_concrete_function().graph
        found = {t.dtype for op in graph.get_operations() for t in op.outputs}
    return sorted(
        dtype.name
        for dtype in found
        if dtype.is_floating and dtype.name != "float32"
    )


def _difference(wanted: formats.Outputs, got: formats.Outputs) -> float:
    """Returns the largest relative difference of all outputs, or NaN."""
    missing = sorted(set(wanted) - set(got))
    if missing:
        raise ValueError(
            f"The export lacks outputs of the model: {', '.join(missing)}. "
            f"Received: {sorted(got)}"
        )
    errors = []
    for name, value in wanted.items():
        value = np.asarray(value, np.float64)
        if got[name].shape != value.shape:
            raise ValueError(
                f"The export's output {name!r} has another shape than the "
                f"model's. Expected: {value.shape}. "
                f"Received: {got[name].shape}"
            )
        largest = np.abs(value).max(initial=0.0) or 1.0
        errors.append(np.abs(got[name] - value).max(initial=0.0) / largest)
    return float(np.max(errors))


def _if_sensitive(
    run: Callable[[Any], formats.Outputs], images: Any, error: float
) -> str:
    """Returns what to do if the model itself is the reason, or "".

    Args:
      run: the export.
      images: its inputs.
      error: its difference from the model.
    """
    rng = np.random.default_rng(0)

    def nudged(array: np.ndarray) -> np.ndarray:
        if not np.issubdtype(array.dtype, np.floating):
            return array
        signs = rng.choice([-1.0, 1.0], array.shape)
        return (array * (1.0 + 2.0**-23 * signs)).astype(array.dtype)

    moved = tf.nest.map_structure(nudged, images)
    change = _difference(run(images), run(moved))
    if not change >= 0.1 * error:  # Also if it is NaN.
        return ""
    return (
        "The model is the reason: its outputs change by "
        f"{change:.1e} if the inputs change by 2^-23, the precision of "
        "float32. Layers with moving statistics are like this before they "
        "are trained: train the model, or set the statistics with "
        "`evonorm_tf.recalibrate`. "
    )


def milliseconds(run: Callable[[Any], Any], image: Any) -> float:
    """Returns the median time of one image, after a first run."""
    run(image)  # The first run also plans or traces.
    took, start = [], time.perf_counter()
    while len(took) < _RUNS and time.perf_counter() - start < _SECONDS:
        before = time.perf_counter()
        run(image)
        took.append(time.perf_counter() - before)
    return statistics.median(took) * 1e3


def latency(milliseconds: float) -> str:
    """Says what a latency is, for people."""
    return (
        f"one image in {milliseconds:.2f} ms (on this machine, with the "
        f"runtime's default threads; median of up to {_RUNS} runs)"
    )


def readable(size: int) -> str:
    """Formats a number of bytes in MB, or in kB below one MB."""
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.2f} MB"


def size(path: pathlib.Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
