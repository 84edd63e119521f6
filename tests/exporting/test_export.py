"""Files compute what the model does, and what does not is not kept."""

import dataclasses
import functools
import importlib.util
import sys
import types
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from evonorm_tf import export, layers, legacy
from evonorm_tf.exporting import __main__ as command
from evonorm_tf.exporting import check, formats, trace

SHAPE = (12, 12, 3)
KERASES = {"keras": layers, "tf_keras": legacy}


def _images(count=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, *SHAPE)).astype(np.float32)


@functools.cache
def _model(home="keras", rows=("evonorm_b0", "evonorm_s0", "bn_relu")):
    """A network nested in another, with statistics as after training."""
    home = KERASES[home]
    keras = getattr(home, "keras", None) or home.tf_keras
    inner = keras.Sequential([keras.layers.Input((12, 12, 8))])
    for row in rows:
        inner.add(home.NormAct(row, groups=4))
        inner.add(keras.layers.Conv2D(8, 3, padding="same"))
    images = keras.Input(SHAPE)
    x = inner(keras.layers.Conv2D(8, 3, padding="same")(images))
    x = keras.layers.GlobalAveragePooling2D()(home.NormAct("evonorm_s2")(x))
    model = keras.Model(images, keras.layers.Dense(5)(x))
    rng = np.random.default_rng(1)
    for layer in model._flatten_layers():
        for weight in getattr(layer, "weights", []):
            if "moving_variance" in weight.name or "/v" in weight.name:
                weight.assign(rng.uniform(0.5, 2.0, weight.shape))
    return model


@functools.cache
def _small():
    """A model for what does not depend on the network."""
    images = layers.keras.Input(SHAPE)
    return layers.keras.Model(images, layers.EvoNormS0(groups=1)(images))


@pytest.fixture(autouse=True, scope="module")
def traced_once():
    """Each export traces the model again, for its latency alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "runner", functools.cache(formats.runner))
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function of Keras and format: the path of `_model`, and its export."""

    @functools.cache
    def made(home, name):
        path = tmp_path_factory.mktemp(name) / formats.FORMATS[name].file
        return path, export(_model(home), path, name, images=_images())

    return made


# After its trace a model of tf_keras is like the other, and its .keras file is
# read in `test_several_inputs`.
@pytest.mark.parametrize(
    ("home", "name"),
    [
        *[("keras", f) for f in formats.FORMATS if f != "tflite_int8"],
        ("tf_keras", "saved_model"),
        *(
            pytest.param("tf_keras", f, marks=pytest.mark.slow)
            for f in ("keras", "tflite", "tflite_float16", "onnx")
        ),
    ],
)
def test_formats_agree_with_the_model(home, name, exported):
    if name == "onnx":
        pytest.importorskip("tf2onnx")
    model, images = _model(home), _images()
    path, done = exported(home, name)
    assert done.difference <= formats.FORMATS[name].tolerance
    if name not in ("keras", "tflite_float16"):
        assert done.difference < 1e-5
    if name == "tflite_float16":  # Weights were rounded.
        assert done.difference > 1e-6
    # What stands there is what was compared, and takes any number.
    run = formats.FORMATS[name].read(path)
    for count in (1, 3):
        want = np.asarray(model(images[:count], training=False))
        got = run(images[:count])["output_0"]
        atol = 2e-2 if name == "tflite_float16" else 1e-5
        np.testing.assert_allclose(got, want, atol=atol * abs(want).max())
    assert done.size == check.size(path) > 1000
    assert done.milliseconds > 0 and done.left == ()
    said = f"one image in {done.milliseconds:.2f} ms (on this machine, with"
    assert said in str(done) and "median of up to 20 runs" in str(done)
    assert f"{done.difference:.1e}" in str(done)
    assert check.readable(done.size) in str(done)
    assert list(path.parent.iterdir()) == [path]


def _tensors(path):
    plain = (
        tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter = tf.lite.Interpreter(
        str(path), experimental_op_resolver_type=plain
    )
    by_index = {t["index"]: t for t in interpreter.get_tensor_details()}
    for op in interpreter._get_ops_details():
        yield op["op_name"], [by_index[i] for i in op["outputs"]]


def test_tflite_has_no_tensor_above_rank_four(exported):
    path, _ = exported("keras", "tflite")
    found = dict.fromkeys(name for name, _ in _tensors(path))
    assert not {"PACK", "SHAPE", "BROADCAST_TO", "TRANSPOSE"} & set(found)
    assert all(
        len(tensor["shape"]) <= 4
        for _, tensors in _tensors(path)
        for tensor in tensors
    )


def test_int8_convolves_in_int8_and_keeps_statistics_in_float32(tmp_path):
    path = tmp_path / "model.tflite"
    done = export(_model(), path, "tflite_int8", images=_images(16))
    assert 1e-4 < done.difference <= 0.05
    kinds = [(n, t["dtype"]) for n, tensors in _tensors(path) for t in tensors]
    affine = {kind for kind in kinds if kind[0] in formats._AFFINE}
    assert affine == {
        ("CONV_2D", np.int8),
        ("FULLY_CONNECTED", np.int8),
    }
    statistics = {"MEAN", "SQUARED_DIFFERENCE", "RSQRT", "SQRT", "DIV"}
    assert {dtype for n, dtype in kinds if n in statistics - {"MEAN"}} == {
        np.float32
    }
    # Into float32 and out of it once for each of the three EvoNorms, beside
    # the file's input and output; BatchNorm is part of a convolution.
    names = [name for name, _ in kinds]
    assert names.count("DEQUANTIZE") == names.count("QUANTIZE") == 4
    # What computes no statistics stays in int8: the last layer, S2, is left.
    model = _model(rows=("bn_relu", "dyt"))
    export(model, path, "tflite_int8", images=_images(16))
    assert [n for n, _ in _tensors(path)].count("DEQUANTIZE") == 2
    with pytest.raises(ValueError, match="int8 takes the range"):
        export(_model(), path, "tflite_int8")


def test_subclassed_models_and_several_outputs(tmp_path):
    class Two(layers.keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = layers.EvoNormS0(groups=1)

        def call(self, images, training=None):
            x = self.norm(images, training=training)
            return {"all": x, "mean": tf.reduce_mean(x, [1, 2])}

    model, images = Two(), _images(2)
    with pytest.raises(ValueError, match="pass `images`"):
        export(model, tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="unbuilt layers"):
        export(model, tmp_path / "model.tflite", images=images)
    model(images)
    done = export(model, tmp_path / "model.tflite", images=images)
    assert done.difference < 1e-5
    run = formats.FORMATS["tflite"].read(tmp_path / "model.tflite")
    assert {k: v.shape for k, v in run(images).items()} == {
        "all": (2, *SHAPE),
        "mean": (2, 3),
    }


@pytest.mark.parametrize(
    "home", ["keras", pytest.param("tf_keras", marks=pytest.mark.slow)]
)
def test_half_precision(home, tmp_path):
    """A SavedModel holds it; TensorFlow Lite has no such convolution."""
    home = KERASES[home]
    keras = getattr(home, "keras", None) or home.tf_keras
    images = keras.Input(SHAPE)
    x = keras.layers.Conv2D(8, 3, dtype="mixed_float16")(images)
    x = home.NormAct("evonorm_s0", groups=4, dtype="mixed_float16")(x)
    model = keras.Model(images, x)
    done = export(model, tmp_path / "saved", images=_images())
    # Rounded to float16, not always to the same side.
    assert done.difference <= 2**-10
    assert done.tolerance == 2e-2
    with pytest.raises(ValueError, match="with float16") as refused:
        export(model, tmp_path / "model.tflite", images=_images())
    assert refused.value.__cause__ is not None
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_maps_of_one_pixel_in_int8(tmp_path):
    """Their variances are 0; TensorFlow Lite aborted on them."""
    keras = layers.keras
    images = keras.Input((1, 1, 3))
    x = keras.layers.Conv2D(8, 1)(images)
    for row in ("evonorm_b0", "evonorm_s0", "gn_relu"):
        x = layers.NormAct(row, groups=4)(x)
        x = keras.layers.Conv2D(8, 1)(x)
    # Groups of one channel: S0 divides by sqrt(epsilon), and GroupNorm leaves
    # beta alone.
    for row in ("evonorm_s0", "gn_relu"):
        x = layers.NormAct(row, groups=8, beta_initializer="ones")(x)
    model = keras.Model(images, keras.layers.Conv2D(3, 1)(x))
    given = np.random.default_rng(0).normal(size=(32, 1, 1, 3))
    for name in ("tflite", "tflite_int8"):
        path = tmp_path / f"{name}.tflite"
        done = export(model, path, name, images=given)
        assert done.difference <= formats.FORMATS[name].tolerance


def test_a_model_that_rounding_changes_is_named_as_the_reason(
    tmp_path, monkeypatch
):
    """Each of 30 layers doubles a difference, as in an untrained network."""
    keras = pytest.importorskip("tf_keras")
    images = keras.Input((4, 4, 3))
    x = images
    for _ in range(30):
        x = keras.layers.Lambda(lambda x: 2.0 * tf.math.floormod(x, 0.9))(x)
    right = formats.FORMATS["saved_model"]

    def rounded(path):
        run = right.read(path)
        return lambda x: run({k: np.nextafter(v, v + 9) for k, v in x.items()})

    rounds = dataclasses.replace(right, read=rounded)
    monkeypatch.setitem(formats.FORMATS, "saved_model", rounds)
    given = np.random.default_rng(0).normal(size=(4, 4, 4, 3))
    with pytest.raises(ValueError, match=r"The model is the reason.*2\^-23"):
        export(keras.Model(images, x), tmp_path / "chaos", images=given)


def test_what_is_not_the_model_is_not_kept(tmp_path, monkeypatch):
    model, path = _small(), tmp_path / "saved"
    export(model, path)
    before = sorted(p.name for p in path.iterdir())
    right = formats.FORMATS["saved_model"]

    def wrong(factor):
        def read(path):
            run = right.read(path)
            return lambda x: {k: v * factor for k, v in run(x).items()}

        return dataclasses.replace(right, read=read)

    for factor in (1.01, np.nan):
        monkeypatch.setitem(formats.FORMATS, "saved_model", wrong(factor))
        with pytest.raises(ValueError, match="differs from the model"):
            export(model, path)
        with pytest.raises(ValueError, match="differs from the model"):
            export(model, tmp_path / "other")
    monkeypatch.setitem(formats.FORMATS, "saved_model", wrong(1.01))
    assert export(model, path, tolerance=0.1).difference > 0.005
    assert sorted(p.name for p in path.iterdir()) == before
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_sizes_are_readable():
    assert check.readable(2_517) == "2.5 kB"
    assert check.readable(14_230_000) == "14.23 MB"


def test_commands_give_every_format_a_file_of_its_own():
    names = [chosen.file for chosen in formats.FORMATS.values()]
    assert len(set(names)) == len(names)


def test_wrong_arguments(tmp_path):
    model = _model()
    with pytest.raises(ValueError, match="suffix is not that of a format"):
        export(model, tmp_path / "model.pb")
    with pytest.raises(ValueError, match="Unknown format"):
        export(model, tmp_path / "model.pb", "graphdef")
    with pytest.raises(ValueError, match=r"end in \.onnx"):
        export(model, tmp_path / "model.tflite", "onnx")
    with pytest.raises(ValueError, match=r"images of shape \[2, 8, 8, 3\]"):
        export(model, tmp_path / "x.tflite", images=np.zeros([2, 8, 8, 3]))
    with pytest.raises(ValueError, match=r"suffix \.keras in lower case"):
        export(model, tmp_path / "MODEL.KERAS")
    for wrong in (-1, float("nan"), "0.1", True):
        with pytest.raises(ValueError, match="`tolerance` must be a number"):
            export(model, tmp_path / "model.tflite", tolerance=wrong)
    with pytest.raises(TypeError, match="Keras 3 or tf_keras"):
        export(lambda x: x, tmp_path / "model.tflite")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(ValueError, match=r"nothing but .*with thesis\.txt"):
        export(model, tmp_path / "mine", "saved_model")
    # Beside a SavedModel it is as much the user's.
    (tmp_path / "mine" / "saved_model.pb").touch()
    with pytest.raises(ValueError, match=r"with thesis\.txt"):
        export(model, tmp_path / "mine", "saved_model")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="path is a file"):
        export(model, tmp_path / "file")
    with pytest.raises(ValueError, match="folder of the path is a file"):
        export(model, tmp_path / "file" / "model.tflite")
    (tmp_path / "mine" / "model.onnx").mkdir()
    with pytest.raises(ValueError, match="a file, but it is a folder"):
        export(model, tmp_path / "mine" / "model.onnx")
    keras = layers.keras
    anysize = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="of any size"):
        export(keras.Model(anysize, anysize * 2), tmp_path / "model.tflite")
    assert {p.name for p in tmp_path.iterdir()} == {"mine", "file"}
    assert len(list((tmp_path / "mine").iterdir())) == 3


def test_a_folder_without_a_saved_model_is_kept(tmp_path):
    """It may be the user's, even where TensorFlow uses the same names."""
    for name, said in (("site", "with assets"), ("site.tflite", "a folder")):
        logo = tmp_path / name / "assets" / "logo.png"
        logo.parent.mkdir(parents=True)
        logo.touch()
        with pytest.raises(ValueError, match=said):
            export(_model(), tmp_path / name)
        assert logo.exists()


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_integers_are_passed_as_the_model_takes_them(dtype, tmp_path):
    """A cast would make black images of those in [0, 1]; noise is no id."""
    keras, path = layers.keras, tmp_path / "model.tflite"
    images = keras.Input(SHAPE, dtype=dtype)
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    whole = np.rint(255 * np.random.default_rng(0).random((20, *SHAPE)))
    nan = np.where(whole == 0, np.nan, whole)
    for wrong in (whole / 255, -1e10 * whole, whole + 0.5, nan):
        with pytest.raises(ValueError, match=f"of dtype {dtype}, which cannot"):
            export(model, path, "tflite_int8", images=wrong)
    with pytest.raises(ValueError, match="only for floating inputs"):
        export(model, path)
    assert not list(tmp_path.iterdir())
    rights = [whole, whole.astype(np.uint8), whole.astype(np.int64)]
    # Of the model's dtype once, and of the others where these are larger.
    for right in rights[:1] if dtype == "int32" else rights[1:]:
        done = export(model, path, "tflite_int8", images=right)
        assert 0 < done.difference < 0.1


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_an_operation_that_a_format_lacks(name, tmp_path):
    if name == "onnx":
        pytest.importorskip("tf2onnx")
    images = layers.keras.Input(SHAPE)
    model = layers.keras.Model(images, layers.keras.ops.erfinv(images / 9.0))
    path = tmp_path / formats.FORMATS[name].file
    said = f"The {name} export failed.* lacks an operation: Erfinv"
    with pytest.raises(ValueError, match=said) as caught:
        export(model, path)
    assert caught.value.__cause__ is not None
    assert not list(tmp_path.iterdir())


def _two_inputs(home, structure):
    """A convolved image, scaled by a gate [N, 8]; of unequal inputs."""
    home = KERASES[home]
    keras = getattr(home, "keras", None) or home.tf_keras
    image = keras.Input(SHAPE, name="image")
    gate = keras.Input((8,), name="a gate")
    x = home.NormAct("evonorm_s0", groups=4)(keras.layers.Conv2D(8, 3)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    inputs = [image, gate]
    if structure == "dictionary":
        inputs = {"z": image, "b": gate}
    return keras.Model(inputs, keras.layers.Multiply()([x, gate]))


# Converters see names of inputs, whatever the Keras and the structure.
_STRUCTURED = ("keras", "saved_model")


@pytest.mark.parametrize(
    ("home", "structure", "names"),
    [
        ("keras", "list", tuple(formats.FORMATS)),
        ("tf_keras", "dictionary", _STRUCTURED),
        *(
            pytest.param(*two, tuple(formats.FORMATS), marks=pytest.mark.slow)
            for two in (
                *[("keras", "dictionary"), ("tf_keras", "list")],
                ("tf_keras", "dictionary"),
            )
        ),
    ],
)
def test_several_inputs(home, structure, names, tmp_path):
    model = _two_inputs(home, structure)
    rng = np.random.default_rng(2)
    image = rng.normal(size=(8, *SHAPE)).astype(np.float32)
    gate = rng.normal(size=(8, 8)).astype(np.float32)
    given = [image, gate]
    if structure == "dictionary":
        given = {"z": image, "b": gate}
    wanted = np.asarray(model(given, training=False))
    if not importlib.util.find_spec("tf2onnx"):
        names = [name for name in names if name != "onnx"]
    by_name = {"image": image, "a_gate": gate}
    for name in names:
        path = tmp_path / formats.FORMATS[name].file
        done = export(model, path, name, images=given)
        assert done.difference <= formats.FORMATS[name].tolerance
        got = formats.FORMATS[name].read(path)(by_name)["output_0"]
        atol = formats.FORMATS[name].tolerance * np.abs(wanted).max()
        np.testing.assert_allclose(got, wanted, atol=atol)
        # By the names of the inputs, and with noise, it is the same.
        if name == "saved_model":
            export(model, path, images=by_name)
            export(model, path)


@layers.keras.saving.register_keras_serializable(package="tests")
class Gated(layers.keras.Model):
    """A normalized image [N, H, W, C], scaled by a gate [N] of integers."""

    def __init__(self, **options):
        super().__init__(**options)
        self.norm = layers.EvoNormS0(groups=1)

    def call(self, inputs, training=None):
        both = isinstance(inputs, dict)
        image, gate = (inputs["image"], inputs["gate"]) if both else inputs
        scale = tf.cast(gate, image.dtype)[:, None, None, None]
        return self.norm(image, training=training) * scale


@pytest.mark.parametrize("structure", [dict, list])
def test_several_inputs_of_a_subclass(structure, tmp_path):
    given = {"image": _images(4), "gate": np.arange(4)}
    names = ["gate", "image"]
    if structure is list:
        given, names = list(given.values()), ["images_0", "images_1"]
    model = Gated()
    wanted = np.asarray(model(given))
    export(model, tmp_path / "saved", images=given)
    # Which its own file is run on.
    export(model, tmp_path / "model.keras", images=given)
    by_name = dict(zip(names, tf.nest.flatten(given)))
    run = formats.FORMATS["saved_model"].read(tmp_path / "saved")
    np.testing.assert_allclose(run(by_name)["output_0"], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "arguments"),
    [
        (["a b", "a_b", "a:b"], ["a_b", "a_b_1", "a_b_2"]),
        (["_a", "b", "B"], ["input_a", "b", "B_1"]),
        (["\u00e9", "c", "C_1"], ["input_", "c", "C_1"]),
    ],
)
def test_names_of_inputs_are_those_of_arguments(names, arguments):
    keras = layers.keras
    inputs = [keras.Input(SHAPE, name=name) for name in names]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    found = trace.Inputs(model)
    assert list(found.specs) == arguments
    serve = trace.function(model, found).get_concrete_function()
    (specs,), _ = serve.structured_input_signature
    assert {spec.name for spec in specs.values()} == set(arguments)
    # As in the model, whatever the order of names.
    values = [np.full(1, value) for value in (1, 2, 3)]
    named = dict(zip(arguments, values))
    assert found.named(values) == found.named(named) == named
    assert found.arguments(named) == values


def test_nested_outputs_are_named_by_their_paths(tmp_path):
    images = layers.keras.Input(SHAPE)
    outputs = {"a": images, "b": [images + 1, {"c": images + 2}]}
    outputs["b_0"] = images + 3
    model = layers.keras.Model(images, outputs)
    export(model, tmp_path / "saved")
    run = formats.FORMATS["saved_model"].read(tmp_path / "saved")
    found = run(np.zeros([1, *SHAPE], np.float32))
    values = {name: int(np.max(value)) for name, value in found.items()}
    assert values == {"a": 0, "b_0": 1, "b_1_c": 2, "b_0_1": 3}


def test_the_keras_format_is_not_traced(tmp_path, monkeypatch):
    monkeypatch.setattr(trace, "function", None)
    done = export(_small(), tmp_path / "model.keras", images=_images())
    assert done.left == () and done.tolerance == 1e-5


def test_several_inputs_that_do_not_fit(tmp_path):
    model, path = _two_inputs("keras", "list"), tmp_path / "saved"
    image, gate = np.zeros((4, *SHAPE)), np.zeros((4, 8))
    for wrong in (image, [image], {"image": image, "gate": gate}):
        with pytest.raises(ValueError, match="the inputs image, a_gate: pass"):
            export(model, path, images=wrong)
    with pytest.raises(ValueError, match="same number of samples"):
        export(model, path, images=[image, gate[:2]])
    with pytest.raises(ValueError, match=r"takes image \[None, 12, 12, 3\]"):
        export(model, path, images=[gate, image])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_a_size_that_is_not_fixed(interpolation, tmp_path):
    """Upsampling and a convolution; the error says how to fix it."""
    keras = layers.keras
    anysize = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3)(anysize)
    x = keras.layers.UpSampling2D(2, interpolation=interpolation)(x)
    x = keras.layers.Conv2D(8, 3)(x)
    x = layers.NormAct("evonorm_s0", groups=4)(x)
    model, path = keras.Model(anysize, x), tmp_path / "model.tflite"
    with pytest.raises(ValueError, match="no fixed size") as caught:
        export(model, path, images=_images(2))
    said = str(caught.value)
    assert "inputs images [None, None, None, 3]" in said
    assert caught.value.__cause__ is not None
    assert not list(tmp_path.iterdir())
    # As the message says.
    assert "export(keras.Model(images, model(images)), ...)" in said
    images = keras.Input(SHAPE)
    export(keras.Model(images, model(images)), path, images=_images(2))


def _any_size():
    images = layers.keras.Input((None, None, 3))
    return layers.keras.Model(images, layers.NormAct("evonorm_b0")(images))


@pytest.mark.parametrize("package", ["tf2onnx", "onnxruntime"])
def test_a_missing_package_is_not_taken_for_a_size(
    package, tmp_path, monkeypatch
):
    """Named before the model is traced, which may take minutes."""
    for name in ("tf2onnx", "onnxruntime"):
        found = None if name == package else types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, found)
    monkeypatch.setattr(trace, "function", None)
    with pytest.raises(ImportError, match=rf"{package}.*evonorm-tf\[export\]"):
        export(_any_size(), tmp_path / "model.onnx", images=_images(2))


def test_a_full_disk_is_not_taken_for_a_size(tmp_path, monkeypatch):
    def write(source, path):
        raise OSError("No space left on device")

    full = dataclasses.replace(formats.FORMATS["tflite"], write=write)
    monkeypatch.setitem(formats.FORMATS, "tflite", full)
    with pytest.raises(OSError, match="No space left"):
        export(_any_size(), tmp_path / "model.tflite", images=_images(2))


@pytest.mark.parametrize("home", KERASES)
def test_any_size_where_the_format_holds_it(home, tmp_path):
    home = KERASES[home]
    keras = getattr(home, "keras", None) or home.tf_keras
    images = keras.Input((None, None, 3))
    x = home.NormAct("evonorm_s0", groups=4)(keras.layers.Conv2D(8, 3)(images))
    model, path = keras.Model(images, x), tmp_path / "model.tflite"
    export(model, path, images=_images(2))
    other = np.zeros((1, 7, 9, 3), np.float32)
    got = formats.FORMATS["tflite"].read(path)(other)["output_0"]
    np.testing.assert_allclose(got, model(other), atol=1e-6)


# Files of tf_keras are read in `test_several_inputs`, by the same function.
@pytest.mark.parametrize(
    "home", ["keras", pytest.param("tf_keras", marks=pytest.mark.slow)]
)
def test_command(home, tmp_path, capsys):
    _model(home).save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", _images(2))
    arguments = [str(tmp_path / "model.keras"), f"--output={tmp_path / 'out'}"]
    arguments.append(f"--images={tmp_path / 'images.npy'}")
    assert command.main([*arguments, "--format=tflite,saved_model"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2 and "outputs differ by" in lines[0]
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"model.tflite", "saved_model"}
    # Several inputs by their names.
    _two_inputs(home, "list").save(tmp_path / "model.keras")
    np.savez(
        tmp_path / "two.npz", image=_images(2), a_gate=np.ones([2, 8], "f4")
    )
    arguments[2] = f"--images={tmp_path / 'two.npz'}"
    assert command.main([*arguments, "--format=saved_model"]) == 0
    assert "outputs differ by" in capsys.readouterr().out
    assert command.main([*arguments, "--format=onnx,pb"]) == 2
    assert "Received: pb" in capsys.readouterr().err
    assert command.main(["none.keras", "--output=x"]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("home", KERASES)
def test_a_class_that_is_not_registered(home, tmp_path, capsys):
    home = KERASES[home]
    keras = getattr(home, "keras", None) or home.tf_keras

    class Own(keras.layers.Layer):
        def call(self, x):
            return 2.0 * x

    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input(SHAPE), Own()]).save(path)
    assert command.main([str(path), f"--output={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert "a class that is not registered" in said and "Own" in said


def test_a_file_that_is_no_keras_file_is_named(tmp_path, capsys):
    path = tmp_path / "model.keras"
    path.write_bytes(b"not a zip")
    assert command.main([str(path), f"--output={tmp_path}"]) == 2
    assert "not a .keras file" in capsys.readouterr().err
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("other.txt", "")
    assert command.main([str(path), f"--output={tmp_path}"]) == 2
    assert "metadata.json" in capsys.readouterr().err


@pytest.mark.parametrize("save", [np.save, np.savez_compressed])
def test_damaged_images_are_named(save, tmp_path, capsys):
    _model().save(tmp_path / "model.keras")
    path = tmp_path / "images"
    with open(path, "wb") as file:
        save(file, np.random.default_rng(0).normal(size=[2, *SHAPE]))
    data = path.read_bytes()
    damaged = [data[:count] for count in (0, 5, 100, len(data) - 1)]
    damaged.append(data[:200] + bytes(20) + data[220:])
    arguments = [str(tmp_path / "model.keras"), f"--output={tmp_path}"]
    for content in damaged if save is not np.save else damaged[:-1]:
        path.write_bytes(content)
        assert command.main([*arguments, f"--images={path}"]) == 2
        assert f"images='{path}'" in capsys.readouterr().err
