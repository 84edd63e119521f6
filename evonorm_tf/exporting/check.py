"""A file is written, read back and compared before it stands anywhere."""

import pathlib
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from evonorm_tf.exporting import formats

# What is computed in 16 bits is rounded anew where operations are folded: by
# 2^-9 at a bfloat16, and the errors of tens of layers add up.
_HALVES, _OF_HALVES = {"float16", "bfloat16"}, 2e-2
_RUNS, _SECONDS = 20, 2.0  # of measuring a latency, at most


class Checked(NamedTuple):
    """What a written file is.

    Attributes:
      difference: largest difference of an output from the model's, relative
        to the largest output.
      tolerance: what would have been refused above.
      size: bytes.
      milliseconds: of one image, read back, the median of some runs.
    """

    difference: float
    tolerance: float
    size: int
    milliseconds: float


def write(
    name: str,
    source: formats.Source,
    path: pathlib.Path,
    expected: tuple[Any, formats.Outputs],
    tolerance: float | None = None,
) -> Checked:
    """Writes a format, reads it back and compares.

    Args:
      name: one of `formats.FORMATS`.
      source: what is exported.
      path: where to, aside of where it is to stand: what is refused is there.
      expected: images [N, H, W, C], or arrays by the names of several
        inputs, and of the model's outputs those to compare.
      tolerance: None for the format's own, or 2e-2 if that is less and the
        model computes in 16 bits.

    Raises:
      ValueError: an output differs by more than the tolerance, or the format
        cannot hold a model of the model's dtype.
    """
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
    except Exception as failure:
        specs = tf.nest.flatten(source.serve.input_signature)
        if unknown_size(specs):
            raise ValueError(unknown_size(specs)) from failure
        other = _other_dtypes(source)
        if not other:
            raise
        raise ValueError(
            f"The {name} export failed, and most likely for the model's "
            "dtype: what reads such a file has few operations but in "
            "float32. Make the model anew in float32 (with Keras's policy "
            "'float32') and give it the weights, "
            "new.set_weights(model.get_weights()); or export a SavedModel. "
            f"Received: format={name!r}, a model with {', '.join(other)}"
        ) from failure
    error = _difference(wanted, got)
    # Not `>`: what is no number is no export either.
    if not error <= tolerance:
        raise ValueError(
            f"The {name} export is not the model: its outputs differ by "
            f"{error:.1e} of the largest, at most {tolerance:.0e} "
            "expected. It was not kept; what stood there before was. If "
            "the difference is what you accept, give `tolerance`. "
            f"Received: format={name!r}"
        )
    one = {key: value[:1] for key, value in formats.by_name(images).items()}
    took = milliseconds(run, one)
    return Checked(error, tolerance, size(path), took)


def unknown_size(specs: Iterable[tf.TensorSpec]) -> str:
    """How to fix an export that failed for inputs of any size; or empty.

    Args:
      specs: of the model's inputs.
    """
    unknown = [
        f"{spec.name} {list(spec.shape)}"
        for spec in specs
        if None in spec.shape[1:]
    ]
    if not unknown:
        return ""
    return (
        "The export failed, and most likely because the model does not fix "
        "the size of its input. Fix it to the one that it is to serve: "
        "images = keras.Input((256, 256, 3)); "
        "export(keras.Model(images, model(images)), ...). "
        f"Received: inputs {', '.join(unknown)}"
    )


def _other_dtypes(source: formats.Source) -> list[str]:
    """The floating dtypes that a model computes in, float32 left out."""
    graph = source.serve.get_concrete_function().graph
    found = {t.dtype for op in graph.get_operations() for t in op.outputs}
    return sorted(
        dtype.name
        for dtype in found
        if dtype.is_floating and dtype.name != "float32"
    )


def _difference(wanted: formats.Outputs, got: formats.Outputs) -> float:
    """Largest of all outputs, each relative to its largest; NaN stays NaN."""
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


def milliseconds(run: Callable[[Any], Any], image: Any) -> float:
    """Median time of one image."""
    run(image)  # What is done once, a plan or a trace.
    took, start = [], time.perf_counter()
    while len(took) < _RUNS and time.perf_counter() - start < _SECONDS:
        before = time.perf_counter()
        run(image)
        took.append(time.perf_counter() - before)
    return statistics.median(took) * 1e3


def readable(size: int) -> str:
    """A number of bytes in MB, or in kB below one MB."""
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.2f} MB"


def size(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
