"""Exports a model for serving, and checks what it exported.

    exported = evonorm_tf.export(model, "model.tflite", images=images)
    print(exported)

The command is `python -m evonorm_tf.exporting --help`. Formats: "keras",
"saved_model", "tflite", "tflite_float16", "tflite_int8" and "onnx"; see
docs/export.md. All but "keras" hold the folded form of the NormAct layers
(`evonorm_tf.exporting.forms`); a model that is exported in some other way takes
that form within `inference_form(model)`.
"""

import dataclasses
import os
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf

from evonorm_tf.exporting import check, formats, trace
from evonorm_tf.exporting.trace import inference_form

__all__ = ["FORMATS", "Exported", "export", "inference_form"]

FORMATS = tuple(formats.FORMATS)
_COMPARED = 16  # images, at most


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was exported, and how far it is from the model.

    Attributes:
      path: the file or folder.
      format: one of `FORMATS`.
      difference: largest difference of an output from the model's, relative
        to the largest output.
      tolerance: what would have been refused above.
      size: bytes.
      milliseconds: of one image, read back, the median of some runs.
      model_milliseconds: of one image in the model as a tf.function.
      left: names of NormAct layers that have no folded form.
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
            f"{self.difference:.1e} of the largest (at most "
            f"{self.tolerance:.0e}), {self.size / 1e6:.2f} MB, "
            f"{self.milliseconds:.2f} ms an image (the model "
            f"{self.model_milliseconds:.2f}){left}"
        )


def export(
    model: Any,
    path: str | os.PathLike,
    format: str | None = None,
    *,
    images: Any = None,
    tolerance: float | None = None,
) -> Exported:
    """Writes a model in a format, reads it back and compares the two.

    Outputs are named as the model names them, or "output_0", "output_1", ...;
    the input is "images", [N, H, W, C] for any N.

    Args:
      model: a built Keras 3 or tf_keras model of one input.
      path: where to; what is refused never stands there.
      format: one of `FORMATS`; None for that of the path's suffix, where no
        suffix is "saved_model".
      images: [N, H, W, C] as the model takes them: the first 16 to compare
        on, all of them for the ranges of "tflite_int8"; None for four of
        normal noise.
      tolerance: largest difference of an output, relative to the largest;
        None for the format's own.

    Returns:
      What was written, its difference from the model, size and latency.

    Raises:
      ValueError: unknown format, a path or images that do not fit, an export
        that differs from the model by more than the tolerance.
      TypeError: for what is not a Keras model.
      ImportError: "onnx" without the packages of the extra `export`.
    """
    path = pathlib.Path(path)
    name = _format(path, format)
    chosen = formats.FORMATS[name]
    formats.keras_of(model)
    _check_place(path, chosen)
    if images is None and name == "tflite_int8":
        raise ValueError(
            "int8 takes the range of every tensor from images: give some "
            "hundred of those that the model is for. Received: images=None"
        )
    spec = _spec(model, images)
    images = _images(images, spec)
    with trace.inference_form(model) as left:
        pass
    compared = images[:_COMPARED]
    wanted = formats.as_numpy(model(tf.constant(compared), training=False))
    source = formats.Source(model, trace.function(model, spec), images)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(".unchecked", dir=path.parent) as aside:
        written = pathlib.Path(aside) / path.name
        expected = (compared, wanted)
        done = check.write(name, source, written, expected, tolerance)
        _replace(written, path)
    usual = trace.function(model, spec, fold=False)
    usual_milliseconds = check.milliseconds(
        lambda x: formats.as_numpy(usual(x)), tf.constant(images[:1])
    )
    return Exported(
        path=str(path),
        format=name,
        **done._asdict(),
        model_milliseconds=usual_milliseconds,
        left=() if name == "keras" else tuple(left),
    )


def _format(path: pathlib.Path, name: str | None) -> str:
    if name is None:
        suffixes = {f.suffix: n for n, f in reversed(formats.FORMATS.items())}
        name = suffixes.get(path.suffix)
        if name is None:
            raise ValueError(
                "The path's suffix says no format: end it in one of "
                f"{sorted(filter(None, suffixes))}, in nothing for a "
                f"SavedModel, or give `format`. Received: path={str(path)!r}"
            )
    if name not in formats.FORMATS:
        raise ValueError(
            f"Unknown format. Expected one of {list(FORMATS)}. "
            f"Received: format={name!r}"
        )
    return name


def _check_place(path: pathlib.Path, chosen: formats.Format) -> None:
    """Refuses a path that would not hold the format, or holds other things."""
    if chosen.suffix and path.suffix != chosen.suffix:
        raise ValueError(
            f"The path of this format ends in {chosen.suffix}. "
            f"Received: path={str(path)!r}"
        )
    if not chosen.suffix and path.is_file():
        raise ValueError(
            "A SavedModel is a folder, and here is a file. "
            f"Received: path={str(path)!r}"
        )
    held = {one.name for one in path.iterdir()} if path.is_dir() else set()
    ours = () if chosen.suffix else formats.SAVED_MODEL
    other = sorted(held.difference(ours))
    if other:
        raise ValueError(
            "A folder with something else in it is not written over. "
            f"Received: path={str(path)!r}, with {', '.join(other[:5])}"
        )


def _spec(model: Any, images: Any) -> tf.TensorSpec:
    """Of the model's input, [N, H, W, C]."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        raise ValueError(
            "A model of one input can be exported. "
            f"Received: {len(inputs)} inputs"
        )
    if inputs:
        shape, dtype = inputs[0].shape, tf.as_dtype(inputs[0].dtype)
        return tf.TensorSpec([None, *shape[1:]], dtype)
    if images is None:
        raise ValueError(
            "The model does not say the shape of its input: give `images`. "
            f"Received: {type(model).__name__} and images=None"
        )
    return tf.TensorSpec([None, *np.shape(images)[1:]], tf.float32)


def _images(images: Any, spec: tf.TensorSpec) -> np.ndarray:
    """The given images, or noise, in the input's dtype."""
    dtype = spec.dtype.as_numpy_dtype
    if images is not None:
        images = np.asarray(images)
        if not len(images) or not spec.shape.is_compatible_with(images.shape):
            raise ValueError(
                f"The model takes images {list(spec.shape)}, at least one. "
                f"Received: images of shape {list(images.shape)}"
            )
        return images.astype(dtype)
    if None in spec.shape[1:]:
        raise ValueError(
            "The model takes images of any size: give some as `images`. "
            f"Received: images=None, input {list(spec.shape)}"
        )
    noise = np.random.default_rng(0).normal(size=[4, *spec.shape[1:]])
    return noise.astype(dtype)


def _replace(written: pathlib.Path, path: pathlib.Path) -> None:
    """Moves what is checked into its place."""
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(written, path)
