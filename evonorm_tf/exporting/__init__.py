"""Exports a model for serving, and compares the file with the model.

    exported = evonorm_tf.export(model, "model.tflite", images=images)
    print(exported)

The command is `python -m evonorm_tf.exporting --help`. Formats: "keras",
"saved_model", "tflite", "tflite_float16", "tflite_int8" and "onnx"; see
docs/export.md. All but "keras" have the folded form of the NormAct layers
(`evonorm_tf.ops.folding`). To use it with another exporter, trace the model
inside `inference_form(model)`.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from evonorm_tf import files, versions

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    raise versions.missing(__name__, error) from error
from evonorm_tf.exporting import check, formats, trace
from evonorm_tf.exporting.trace import inference_form

__all__ = ["FORMATS", "Exported", "export", "inference_form"]

FORMATS = tuple(formats.FORMATS)
_COMPARED = 16  # maximum number of images


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported file, and its difference from the model.

    Attributes:
      path: the file or folder.
      format: one of `FORMATS`.
      difference: largest difference of an output from the model's, relative
        to the largest output.
      tolerance: largest accepted difference.
      size: in bytes.
      milliseconds: latency of one image with the file, a median.
      model_milliseconds: latency of one image in the model, compiled.
      left: names of NormAct layers without a folded form.
    """

    path: str
    format: str
    difference: float
    tolerance: float
    size: int
    milliseconds: float
    model_milliseconds: float
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        left = f"; not folded: {', '.join(self.left)}" if self.left else ""
        return (
            f"{self.path}: {self.format}, outputs differ by "
            f"{self.difference:.1e} of the largest output (at most "
            f"{self.tolerance:.0e}), {check.readable(self.size)}, "
            f"{check.latency(self.milliseconds)}; the compiled model "
            f"{self.model_milliseconds:.2f} ms{left}"
        )


def export(
    model: Any,
    path: files.Path,
    format: str | None = None,
    *,
    images: Any = None,
    tolerance: float | None = None,
) -> Exported:
    """Exports a model to a format, loads the file and compares the outputs.

    Outputs have the model's names, or "output_0", "output_1", ... A single
    input is called "images", [N, H, W, C] for any N; several inputs have the
    model's names, or those of the structure `images` for a subclassed model.

    Example:
        ```python
        exported = evonorm_tf.export(model, "model.tflite", images=images)
        print(exported)
        ```

    Args:
      model: a built Keras 3 or tf_keras model.
      path: destination, on any file system of TensorFlow. It is not changed if
        the export is rejected.
      format: one of `FORMATS`; None to choose by the suffix of the path, where
        no suffix is "saved_model".
      images: [N, H, W, C] as for the model; for several inputs, a dictionary
        by their names, or a list or structure as for the model. The first 16
        are compared, and all are used for the ranges of "tflite_int8". None
        for four images of normal noise, if all inputs are floating.
      tolerance: largest difference of an output, relative to the largest; None
        for the format's default.

    Returns:
      The exported file's difference from the model, size and latency.

    Raises:
      ValueError: if the format is unknown, the path, the images or the
        tolerance are invalid, a format other than "keras" is of a model on JAX
        or lacks one of its operations, or the export differs from the model by
        more than the tolerance.
      TypeError: if it is not a Keras model.
      ImportError: if "onnx" needs the packages of the extra `export`.
    """
    path = files.normalize(path).rstrip("/")
    name = _format(path, format)
    chosen = formats.FORMATS[name]
    check.check_tolerance(tolerance)
    trace.backend_of(model)  # Else it is no model.
    _check_place(path, chosen)
    chosen.check_needs()
    if images is None and name == "tflite_int8":
        raise ValueError(
            "int8 takes the range of every tensor from images: pass a few "
            "hundred representative ones. Received: images=None"
        )
    inputs = trace.Inputs(model, images)
    given = _images(images, inputs)
    left, serve = [], None
    traced = name != "keras"
    if traced:
        with trace.inference_form(model) as left:
            pass
        serve = _traced(model, inputs)
    compared = {name: array[:_COMPARED] for name, array in given.items()}
    arguments = inputs.arguments(compared)
    wanted = formats.as_numpy(model(arguments, training=False))
    expected = (compared if traced else arguments, wanted)
    source = formats.Source(model, serve, given)
    with files.staging(files.parent(path)) as aside:
        written = pathlib.Path(aside, files.name(path))
        done = check.write(name, source, written, expected, tolerance)
    one = tf.nest.map_structure(lambda array: array[:1], arguments)
    usual_milliseconds = check.milliseconds(formats.runner(model), one)
    return Exported(
        path=path,
        format=name,
        **done._asdict(),
        model_milliseconds=usual_milliseconds,
        left=tuple(left),
    )


def _format(path: str, name: str | None) -> str:
    if name is None:
        suffixes = {f.suffix: n for n, f in reversed(formats.FORMATS.items())}
        name = suffixes.get(files.suffix(path))
        if name is None:
            raise ValueError(
                "The path's suffix is not that of a format: use one of "
                f"{sorted(filter(None, suffixes))}, no suffix for a "
                f"SavedModel, or pass `format`. Received: path={path!r}"
            )
    if name not in formats.FORMATS:
        raise ValueError(
            f"Unknown format. Expected one of {list(FORMATS)}. "
            f"Received: format={name!r}"
        )
    return name


def _check_place(path: str, chosen: formats.Format) -> None:
    """Rejects a path that does not fit the format or has other content."""
    if chosen.suffix and files.suffix(path) != chosen.suffix:
        raise ValueError(
            f"The path of this format must end in {chosen.suffix}. "
            f"Received: path={path!r}"
        )
    if chosen.suffix == ".keras" and not path.endswith(chosen.suffix):
        raise ValueError(
            "Keras reads only files with the suffix .keras in lower case. "
            f"Received: path={path!r}"
        )
    if files.is_file(files.parent(path)):
        raise ValueError(
            f"The folder of the path is a file. Received: path={path!r}"
        )
    if chosen.suffix:
        if files.is_folder(path):
            raise ValueError(
                "The path of this format is a file, but it is a folder: pass "
                "another path, or remove the folder. "
                f"Received: path={path!r}"
            )
        return
    if files.is_file(path):
        raise ValueError(
            "A SavedModel is a folder, but the path is a file. "
            f"Received: path={path!r}"
        )
    held = set(files.names(path))
    # Without the first file, "assets" and "variables" may be anybody's.
    ours = formats.SAVED_MODEL if formats.SAVED_MODEL[0] in held else ()
    other = sorted(held.difference(ours))
    if other:
        raise ValueError(
            "A folder is overwritten only if it holds nothing but a "
            f"SavedModel with its {formats.SAVED_MODEL[0]}. Pass another path, "
            "or remove what is there. "
            f"Received: path={path!r}, with {', '.join(other[:5])}"
        )


def _traced(model: Any, inputs: trace.Inputs) -> Any:
    try:
        return trace.function(model, inputs)
    except Exception as failure:
        # A layer of Keras may need a size that is unknown.
        fix = check.unknown_size(inputs.specs.values())
        if not fix:
            raise
        raise ValueError(fix) from failure


def _images(images: Any, inputs: trace.Inputs) -> dict[str, np.ndarray]:
    """Returns the images, or noise, in the inputs' dtypes, by name."""
    if images is None:
        return {k: _noise(k, spec) for k, spec in inputs.specs.items()}
    found = {}
    for name, array in inputs.named(images).items():
        spec, array = inputs.specs[name], np.asarray(array)
        if not array.size or not spec.shape.is_compatible_with(array.shape):
            raise ValueError(
                f"The model takes {name} {list(spec.shape)}, at least one. "
                f"Received: {name} of shape {list(array.shape)}"
            )
        found[name] = _cast(name, array, spec.dtype)
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            "All inputs must have the same number of samples. "
            f"Received: images with {counts}"
        )
    return found


def _cast(name: str, array: np.ndarray, dtype: tf.DType) -> np.ndarray:
    """Returns an array in an input's dtype; rejects other values there."""
    with np.errstate(invalid="ignore"):
        cast = array.astype(dtype.as_numpy_dtype)
    # Floating ones are rounded.
    if dtype.is_floating or np.array_equal(cast, array):
        return cast
    lost = array[cast != array].flat[0]
    raise ValueError(
        f"The model takes {name} of dtype {dtype.name}, which cannot hold all "
        "values: pass them as the model takes them, for example images of "
        "uint8 from 0 to 255 and not from 0 to 1. "
        f"Received: {name} of dtype {array.dtype}, with {lost}"
    )


def _noise(name: str, spec: tf.TensorSpec) -> np.ndarray:
    if not spec.dtype.is_floating:
        raise ValueError(
            "Noise is only for floating inputs, because it is unknown which "
            "numbers mean something to the model: pass `images`. Received: "
            f"images=None, input {name} of dtype {spec.dtype.name}"
        )
    if None in spec.shape[1:]:
        raise ValueError(
            "The model accepts images of any size: pass `images` of the size "
            "that it will serve. Received: images=None, input "
            f"{name} {list(spec.shape)}"
        )
    noise = np.random.default_rng(0).normal(size=[4, *spec.shape[1:]])
    return noise.astype(spec.dtype.as_numpy_dtype)
