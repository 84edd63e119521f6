"""The file formats: how each is written, and how a file is run."""

import dataclasses
import functools
import importlib
import json
import pathlib
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from evonorm_tf import files, versions
from evonorm_tf.exporting import trace

Outputs = dict[str, np.ndarray]
# What ONNX files are written in: the newest that tf2onnx knows well.
_OPSET = 17
# TensorFlow Lite divides in float32 only; its converter would quantize other
# layers' divisions all the same, and the file would not run.
_FLOAT = ["DIV"]
# Operations that take the constants before and after them into their weights.
_AFFINE = {
    "CONV_2D",
    "CONV_3D",
    "DEPTHWISE_CONV_2D",
    "TRANSPOSE_CONV",
    "FULLY_CONNECTED",
}
# What TensorFlow writes into a SavedModel's folder; every one has the first.
SAVED_MODEL = (
    "saved_model.pb",
    "fingerprint.pb",
    "keras_metadata.pb",
    "variables",
    "assets",
    "assets.extra",
)


class Source(NamedTuple):
    """What is exported.

    Attributes:
      model: a built Keras model.
      serve: its function at inference, see `trace.function`; None for the
        format "keras", which needs no trace.
      images: [N, H, W, C], or arrays by the names of several inputs, for the
        ranges of int8.
      others: further signatures of a SavedModel, concrete functions by name.
    """

    model: Any
    serve: Any
    images: "np.ndarray | Mapping[str, np.ndarray]"
    others: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
      file: the name that commands give its file or folder.
      tolerance: largest accepted difference of an output, relative to the
        largest output.
      write: (source, path) -> None.
      read: path -> a function of images [N, H, W, C], or of arrays by the
        names of several inputs, to outputs by name.
      needs: packages of the extra `export`.
    """

    file: str
    tolerance: float
    write: Callable[[Source, pathlib.Path], None]
    read: Callable[[pathlib.Path], Callable[[np.ndarray], Outputs]]
    needs: tuple[str, ...] = ()

    def check_needs(self) -> None:
        """Imports the packages that are needed.

        Raises:
          ImportError: if one is missing.
        """
        for name in self.needs:
            _extra(name)

    @property
    def suffix(self) -> str:
        """Returns the suffix of its files; "" for a folder."""
        return pathlib.PurePath(self.file).suffix


def by_name(images: Any) -> dict[str, Any]:
    """Returns arrays by the names of their inputs."""
    return dict(images) if isinstance(images, Mapping) else {"images": images}


def as_numpy(outputs: Any) -> Outputs:
    """Returns outputs as NumPy arrays."""
    named = trace.outputs_by_name(outputs)
    return {name: np.asarray(value) for name, value in named.items()}


# -- Keras and SavedModel -----------------------------------------------------


def _write_keras(source: Source, path: pathlib.Path) -> None:
    source.model.save(str(path))


def read_keras(path: pathlib.Path) -> Any:
    """Loads a .keras file of either Keras.

    Raises:
      ValueError: if it is not such a file, or has an unknown class.
    """
    try:
        with zipfile.ZipFile(path) as file:
            about = json.loads(file.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            "The file is not a .keras file, as written by "
            f"model.save('NAME.keras') ({error}). Received: {str(path)!r}"
        ) from error
    if int(about["keras_version"].split(".")[0]) >= 3:
        from evonorm_tf import layers

        load = layers.keras.models.load_model
    else:
        from evonorm_tf import legacy

        load = legacy.tf_keras.models.load_model
    try:
        return load(str(path))
    except TypeError as error:
        # Behind the configuration of the whole model.
        found = re.search(r"Could not locate [^.]*", str(error))
        why = found[0] if found else str(error).strip().splitlines()[0]
        raise ValueError(
            "The model in the file cannot be created, most likely because of "
            "a class that is not registered. In Python, import its module, "
            "load the model and call evonorm_tf.export. "
            f"Received: {str(path)!r}: {why}"
        ) from error


def _run_keras(path: pathlib.Path) -> Callable[[Any], Outputs]:
    return runner(read_keras(path))


def runner(model: Any) -> Callable[[Any], Outputs]:
    """Returns a model as a compiled function of images, see `trace.Inputs`.

    Args:
      model: a built model of either Keras, on any backend.
    """
    inputs = None
    call = model.predict_on_batch
    if trace.backend_of(model) == "tensorflow":
        traced = tf.function(model, autograph=False)
        call = functools.partial(traced, training=False)

    def run(images):
        nonlocal inputs
        inputs = inputs or trace.Inputs(model, images)
        return as_numpy(call(inputs.arguments(inputs.named(images))))

    return run


def _holder(*functions: Any) -> tf.Module:
    """Returns an object that holds only the functions' variables."""
    holder = tf.Module()
    holder.weights = [v for one in functions for v in one.graph.variables]
    return holder


def save(signatures: Mapping[str, Any], path: str | pathlib.Path) -> None:
    """Writes a SavedModel of functions and the variables that they read.

    Args:
      signatures: concrete functions by name.
      path: of the folder.
    """
    # A Keras model would also save a graph for each of its layers, and the
    # weights that are constants in the functions.
    holder = _holder(*signatures.values())
    tf.saved_model.save(holder, str(path), signatures=dict(signatures))


def _write_saved_model(source: Source, path: pathlib.Path) -> None:
    concrete = source.serve.get_concrete_function()
    save({"serving_default": concrete, **source.others}, path)


def _run_saved_model(path: pathlib.Path) -> Callable[[np.ndarray], Outputs]:
    loaded = tf.saved_model.load(files.without_wildcards(path))

    def run(images):
        # Through `loaded`, because a signature does not keep its variables.
        serve = loaded.signatures["serving_default"]
        given = {k: tf.constant(v) for k, v in by_name(images).items()}
        return as_numpy(serve(**given))

    return run


# -- TensorFlow Lite ----------------------------------------------------------


def _converter(source: Source) -> tf.lite.TFLiteConverter:
    concrete = source.serve.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [concrete], _holder(concrete)
    )


def _write_tflite(source: Source, path: pathlib.Path) -> None:
    path.write_bytes(_converter(source).convert())


def _write_float16(source: Source, path: pathlib.Path) -> None:
    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())


def _write_int8(source: Source, path: pathlib.Path) -> None:
    def samples():
        given = by_name(source.images)
        # In the order of the converted function's inputs.
        for each in zip(*(given[name] for name in sorted(given))):
            yield [image[np.newaxis] for image in each]

    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        tf.lite.OpsSet.TFLITE_BUILTINS,
    ]
    # The only public way to keep an operation in float32.
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_ops=_FLOAT
    )
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=samples, debug_options=options
    )
    options.denylisted_nodes = _with_statistics(debugger.calibrated_model)
    path.write_bytes(debugger.get_nondebug_quantized_model())


def _with_statistics(model: bytes) -> list[str]:
    """Returns output tensors of NormAct operations that stay in float32.

    Squares, divisions and roots have few int8 kernels, and none in XNNPACK,
    which each would interrupt. Such a layer is therefore computed in float32,
    between one dequantization and one quantization, without rounding errors.

    Args:
      model: a TensorFlow Lite file, not quantized.
    """
    resolver = tf.lite.experimental.OpResolverType
    interpreter = tf.lite.Interpreter(
        model_content=model,
        experimental_op_resolver_type=(
            resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    names = {t["index"]: t["name"] for t in interpreter.get_tensor_details()}
    found = []
    for op in interpreter._get_ops_details():
        outputs = [names[index] for index in op["outputs"]]
        if op["op_name"] not in _AFFINE:
            found += [name for name in outputs if trace.STATISTICS in name]
    return found


def _run_tflite(path: pathlib.Path) -> Callable[[np.ndarray], Outputs]:
    interpreter = tf.lite.Interpreter(str(path))
    taken = interpreter.get_signature_runner().get_input_details()
    shapes: dict[str, tuple[int, ...]] = {}

    def run(images):
        given = by_name(images)
        for name, array in given.items():
            if shapes.get(name) != array.shape:
                index = taken[name]["index"]
                interpreter.resize_tensor_input(index, array.shape)
                shapes[name] = array.shape
        return interpreter.get_signature_runner()(**given)

    return run


# -- ONNX ---------------------------------------------------------------------


def _extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise versions.missing("The format onnx", error, "export") from error


def _write_onnx(source: Source, path: pathlib.Path) -> None:
    _extra("tf2onnx").convert.from_function(
        source.serve,
        input_signature=source.serve.input_signature,
        opset=_OPSET,
        output_path=str(path),
    )


def _run_onnx(path: pathlib.Path) -> Callable[[np.ndarray], Outputs]:
    session = _extra("onnxruntime").InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(None, by_name(images))))


# float32 sums in another order differ by about 1e-7 per layer, and constants
# are folded; a float16 weight is rounded by 2^-11, an int8 activation by 2^-8,
# and the errors of tens of layers add up.
FORMATS = {
    "keras": Format("model.keras", 1e-5, _write_keras, _run_keras),
    "saved_model": Format(
        "saved_model", 1e-4, _write_saved_model, _run_saved_model
    ),
    "tflite": Format("model.tflite", 1e-4, _write_tflite, _run_tflite),
    "tflite_float16": Format(
        "model_float16.tflite", 2e-2, _write_float16, _run_tflite
    ),
    "tflite_int8": Format("model_int8.tflite", 2e-1, _write_int8, _run_tflite),
    "onnx": Format(
        "model.onnx", 1e-4, _write_onnx, _run_onnx, ("tf2onnx", "onnxruntime")
    ),
}
