"""Sets of images, references, the kernel distance and `gan.fid`."""

import os

import numpy as np
import pytest
import tf_keras
from PIL import Image

from gan import datasets, experiment, fid, sets
from gan.inspect_dataset import main as check
from gan.metrics import extractor, kernel, measure, reference
from training.images import sources

RNG = np.random.default_rng
SETTINGS = experiment.Evaluation(splits=2, kernel_block=10, kernel_blocks=2)


def _pixels(count, seed, level=0):
    noise = RNG(seed).integers(0, 200, (count, 8, 8, 3))
    return (noise + level).astype(np.uint8)


@pytest.fixture(scope="module")
def extract():
    """A classifier of 4 features."""
    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.Flatten()(inputs)
    x = tf_keras.layers.Dense(4, activation="tanh")(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3)(x))
    return extractor.KerasClassifier(model, "small.keras")


@pytest.fixture
def places(tmp_path):
    """The same images as a folder and as an array; others as an array."""
    pixels = _pixels(30, 0)
    folder = tmp_path / "real"
    for index, image in enumerate(pixels):
        path = folder / f"class{index % 3}" / f"{index // 3:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    np.savez(tmp_path / "same.npz", images=pixels)
    np.savez(tmp_path / "made.npz", arr_0=_pixels(40, 1, level=50))
    return tmp_path


def test_kernel_distance_against_its_definition():
    one, other = RNG(0).standard_normal((2, 12, 5))

    def k(x, y):
        return (x @ y / 5 + 1) ** 3

    n = range(12)
    within = sum(
        k(s[i], s[j]) for s in (one, other) for i in n for j in n if i != j
    )
    between = sum(k(x, y) for x in one for y in other)
    expected = within / (12 * 11) - 2 * between / 144
    assert kernel.of_block(one, other) == pytest.approx(expected, rel=1e-12)
    mean, deviation = kernel.distance(one, other, 6, 10)
    halves = [
        kernel.of_block(one[h], other[h]) for h in (slice(6), slice(6, 12))
    ]
    assert mean == pytest.approx(np.mean(halves))
    assert deviation == pytest.approx(np.std(halves))


def test_kernel_distance_has_no_bias():
    one, other = RNG(0).standard_normal((2, 4000, 3))
    small = [kernel.distance(one, other, m, 4000 // m)[0] for m in (4, 40, 400)]
    # Of one distribution: around 0 at any size; with its bias, 4 samples'
    # would be near 7, E k(x, x) / 4 * 2 less E k(x, y).
    assert np.abs(small).max() < 0.5
    assert kernel.distance(one, other + 1, 400, 10)[0] > 1


def test_kernel_distance_of_a_set_to_its_copy_has_no_bias(tmp_path, extract):
    np.savez(tmp_path / "one.npz", images=_pixels(1000, 0))
    path = str(tmp_path / "one.npz")
    settings = SETTINGS.replace(kernel_block=20, kernel_blocks=50)
    found, _ = fid.compare(path, path, extract, settings)
    mean = found["classifier_kernel_distance"]
    deviation = found["classifier_kernel_distance_std"] / 50**0.5
    assert abs(mean) < 3 * deviation


def test_kept_features_are_a_fixed_random_choice():
    features = np.arange(100, dtype=np.float32)[:, np.newaxis]
    found = []
    for sizes in ([100], [7, 30, 63]):
        kept = kernel.Kept(100, 1, 20)
        for part in np.split(features, np.cumsum(sizes)[:-1]):
            kept.update(part)
        found.append(kept.features[:, 0])
    np.testing.assert_array_equal(*found)
    assert len(set(found[0])) == 20
    assert found[0].max() > 60 and list(found[0]) != sorted(found[0])


def test_folder_and_array_of_one_set_are_at_no_distance(places, extract):
    found, about = fid.compare(
        str(places / "real"), str(places / "same.npz"), extract, SETTINGS
    )
    assert found["classifier_distance"] == pytest.approx(0, abs=1e-6)
    other, _ = fid.compare(
        str(places / "real"), str(places / "made.npz"), extract, SETTINGS
    )
    assert (
        other["classifier_distance"] > 10 * found["classifier_distance"] + 0.01
    )
    assert not any("fid" in name for name in found)
    for part in ("30 images", "8x8 px", ".png", "small.keras", "no resize"):
        assert part in about
    assert extract.facts["sha256"][:12] in about
    assert "2 shuffled splits" in about


def test_reference_is_kept_used_and_refused(places, extract):
    real, made = str(places / "real"), str(places / "made.npz")
    keep = str(places / "kept.npz")
    first, _ = fid.compare(real, made, extract, SETTINGS, keep=keep)
    content = (places / "kept.npz").read_bytes()
    for again in (
        fid.compare(keep, made, extract, SETTINGS),
        fid.compare(real, made, extract, SETTINGS, keep=keep),
    ):
        assert again[0] == pytest.approx(first, rel=1e-6, abs=1e-9)
    # Of other images, another extractor, other settings: refused.
    np.savez(places / "more.npz", images=_pixels(31, 0))
    with pytest.raises(ValueError, match=r"another provenance.*count: '30'"):
        fid.compare(
            str(places / "more.npz"), made, extract, SETTINGS, keep=keep
        )
    # As many images, one of them another.
    path = places / "real" / "class0" / "000.png"
    before = path.read_bytes()
    Image.fromarray(_pixels(1, 7)[0]).save(path)
    with pytest.raises(ValueError, match=r"another provenance.*sha256"):
        fid.compare(real, made, extract, SETTINGS, keep=keep)
    path.write_bytes(before)
    other = experiment.Evaluation(splits=3, kernel_block=10, kernel_blocks=2)
    with pytest.raises(ValueError, match="3 shuffled splits"):
        fid.compare(keep, made, extract, other)
    changed = extractor.KerasClassifier(
        tf_keras.models.clone_model(
            tf_keras.Model(extract._trunk.input, extract._last.output)
        ),
        "small.keras",
    )
    with pytest.raises(ValueError, match="sha256"):
        fid.compare(keep, made, changed, SETTINGS)
    assert (places / "kept.npz").read_bytes() == content
    with pytest.raises(ValueError, match="nothing to keep"):
        fid.compare(keep, made, extract, SETTINGS, keep=keep)
    np.savez(places / "foreign.npz", mu=np.zeros(4), sigma=np.eye(4))
    with pytest.raises(ValueError, match="written by another program"):
        fid.compare(str(places / "foreign.npz"), made, extract, SETTINGS)
    assert not [x for x in os.listdir(places) if "tmp" in x]


def test_sets_of_two_sizes_are_refused(tmp_path, extract):
    small, large = str(tmp_path / "small.npz"), str(tmp_path / "large.npz")
    pixels = _pixels(30, 0)
    np.savez(small, images=pixels)
    np.savez(large, images=pixels.repeat(2, axis=1).repeat(2, axis=2))
    with pytest.raises(ValueError, match=r"\[16, 16\] of .*\[8, 8\] of"):
        fid.compare(large, small, extract, SETTINGS)


def test_tfds_names_may_have_a_config(monkeypatch):
    asked = []

    def open_set(data, side):
        asked.append((data.dataset, data.split, side))
        images = np.zeros((4, side, side, 3), np.uint8)
        return sources.Memory(images, np.zeros(4, np.int32), 1, name="x")

    monkeypatch.setattr(datasets, "open_set", open_set)
    sets.open_set("tfds:cifar10/test")
    found = sets.open_set("tfds:imagenet_resized/32x32:0.1.0/train", side=32)
    assert found.size == (32, 32)
    assert asked == [
        ("cifar10", "test", 299),
        ("imagenet_resized/32x32:0.1.0", "train", 32),
    ]
    with pytest.raises(ValueError, match=r"needs its split.*'tfds:cifar10'"):
        sets.open_set("tfds:cifar10")


def test_damaged_arrays_are_named(tmp_path):
    path = tmp_path / "one.npz"
    score, facts = np.ones(2), '{"count": "9"}'
    known = {"mu": np.ones(4), "sigma": np.eye(4), "kept": np.ones((2, 4))}
    images = RNG(0).integers(0, 9, (9, 8, 8, 3)).astype(np.uint8)
    np.savez_compressed(path, images=images, score=score, facts=facts, **known)
    content = path.read_bytes()
    loads = (
        lambda: sets.open_set(str(path)),
        lambda: reference.load(str(path)),
    )
    for load in loads:
        load()
    for damage in range(200):
        broken = bytearray(content[: RNG(damage).integers(len(content))])
        if damage % 4:
            broken = bytearray(content)
            broken[RNG(damage).integers(len(content))] ^= 1 << damage % 8
        path.write_bytes(broken)
        reference.holds_statistics(str(path))
        for load in loads:  # Some bytes do not matter.
            try:
                load()
            except ValueError as error:
                assert "one.npz" in str(error)
    path.write_bytes(content[:-100])
    for load in loads:
        with pytest.raises(ValueError, match=r"cannot be read.*one\.npz"):
            load()
    np.save(tmp_path / "one.npy", images)
    (tmp_path / "one.npy").rename(path)
    for load in loads:
        with pytest.raises(ValueError, match=r"cannot be read.*one\.npz"):
            load()
    assert not reference.holds_statistics(str(path))
    for facts in ("{", "[]", "{}"):
        np.savez(path, score=score, facts=facts, **known)
        with pytest.raises(ValueError, match=r"cannot be read.*one\.npz"):
            reference.load(str(path))


def test_sets_that_cannot_be_measured(places, extract, tmp_path):
    real = str(places / "real")

    def refused(place, message):
        with pytest.raises(ValueError, match=message):
            fid.compare(place, real, extract, SETTINGS)

    np.savez(places / "few.npz", images=_pixels(4, 0))
    refused(str(places / "few.npz"), r"more than 4 images.*samples=4 of")
    wide = experiment.Evaluation(splits=2, kernel_block=31)
    with pytest.raises(ValueError, match=r"from 2 to 30.*kernel_block=31"):
        fid.compare(real, real, extract, wide)
    for blocks in (-1, 0):
        none = SETTINGS.replace(kernel_blocks=blocks)
        with pytest.raises(ValueError, match=f"kernel_blocks={blocks}"):
            measure.require_enough(30, extract, none, real)
    many = experiment.Evaluation(splits=31, kernel_block=0)
    with pytest.raises(ValueError, match=r"splits=31, samples=30"):
        fid.compare(real, real, extract, many)
    np.savez(places / "floats.npz", images=np.zeros((9, 8, 8, 3)))
    refused(str(places / "floats.npz"), "uint8")
    np.savez(places / "named.npz", pictures=_pixels(9, 0))
    refused(str(places / "named.npz"), "images or arr_0.*pictures")
    (places / "broken.npz").write_bytes(b"PK not a file")
    refused(str(places / "broken.npz"), "cannot be read")
    refused(str(places / "nowhere"), "a folder, an .npz file or tfds:")
    (tmp_path / "empty").mkdir()
    refused(str(tmp_path / "empty"), "folder has no images")
    path = places / "real" / "class0" / "000.png"
    content = path.read_bytes()
    Image.fromarray(_pixels(1, 0)[0, :6]).save(path)
    refused(real, "2 sizes: 8x6, .*000.png")
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(path)
    refused(real, r"000\.png cannot be read.*16 bits per channel")
    path.write_bytes(content[:60])  # The size is there, the pixels are not.
    refused(real, r"000\.png cannot be read")
    path.write_bytes(b"text")
    refused(real, r"000\.png cannot be read")
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    refused(real, r"cannot be read: No such file.*000\.png")
    path.unlink()
    path.mkdir()
    refused(real, r"cannot be read: Is a directory.*000\.png")
    with pytest.raises(ValueError, match="8 px"):
        extract(np.zeros((1, 9, 9, 3), np.uint8))


def test_transparent_pixels_are_measured_on_white(tmp_path, extract):
    pixels = _pixels(30, 0)
    alpha = np.where(RNG(1).random((30, 8, 8, 1)) < 0.5, 0, 255)
    for index, (image, share) in enumerate(zip(pixels, alpha)):
        for folder, picture in (
            ("clear", np.concatenate([image, share], -1)),
            ("white", np.where(share, image, 255)),
        ):
            path = tmp_path / folder / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(path)
    found, about = fid.compare(
        str(tmp_path / "white"), str(tmp_path / "clear"), extract, SETTINGS
    )
    assert found["classifier_distance"] == pytest.approx(0, abs=1e-6)
    assert "transparent pixels of 30 on white" in about
    assert about.count("on white") == 1


def test_all_formats_are_counted_and_what_is_left_out_is_said(
    tmp_path, extract, capsys
):
    suffixes = ("png", "jpg", "bmp", "gif", "webp", "tif", "tiff", "jpeg")
    for index, suffix in enumerate(suffixes):
        path = tmp_path / "made" / f"{index}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(_pixels(1, index)[0]).save(path)
    hidden = tmp_path / "made" / ".ipynb_checkpoints"
    hidden.mkdir()
    Image.fromarray(_pixels(1, 9)[0]).save(hidden / "x.png")
    (tmp_path / "made" / "._0.png").write_bytes(b"macOS")
    (tmp_path / "made" / "notes.txt").touch()
    far = tmp_path / "far"
    far.mkdir()
    Image.fromarray(_pixels(1, 10)[0]).save(far / "linked.png")
    (tmp_path / "made" / "more").symlink_to(far)
    made = str(tmp_path / "made")
    settings = SETTINGS.replace(kernel_block=4)
    _, about = fid.compare(made, made, extract, settings)
    assert about.startswith("9 images")
    said = capsys.readouterr().out
    assert "left out: 2 hidden files or folders" in said
    assert "left out: 1 files with suffix .txt" in said
    assert check([f"--images={made}"]) == 0
    said = capsys.readouterr().out
    assert "9 images" in said and "ADVICE: left out: 2 hidden" in said
    (tmp_path / "made" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    assert check([f"--images={made}"]) == 1
    assert "cut.jpg cannot be read" in capsys.readouterr().out


def test_a_run_s_images_are_looked_at_before_training(tmp_path, capsys):
    assert check(["--experiment=digits_biggan"]) == 0
    said = capsys.readouterr().out
    assert "1,352 images, digits/train" in said
    assert "10 of 10 classes, of 131 to 138 images" in said
    override = "--params_override=task.train_data.dataset=jpeg_digits,"
    override += "task.train_data.split=test"
    assert check(["--experiment=digits_biggan", override, "--all"]) == 0
    said = capsys.readouterr().out
    assert "inspected 445 image files" in said
    assert "shorter side: 64 to 12" in said
    override = "--params_override=task.train_data.tfds_data_dir=" + str(
        tmp_path
    )
    assert check(["--row=cifar10/biggan_small/evonorm_s0", override]) == 1
    assert "tfds build cifar10" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        ["--images=one.npz", "--config_file=nowhere.yaml"],
        ["--images=one.npz", "--params_override=task.seed=1"],
        ["--experiment=digits_biggan", "--tfds_data_dir=somewhere"],
    ],
)
def test_flags_of_another_check_are_refused(flags, capsys):
    with pytest.raises(SystemExit):
        check(flags)
    flag = flags[1].split("=")[0]
    assert f"{flag} " in capsys.readouterr().err.splitlines()[-1]


def test_tfds_set_is_opened_by_name(data_dir):
    found = sets.open_set("tfds:cifar10/test[:300]", str(data_dir / "tfds"))
    assert found.count == 300
    assert next(found.batches()).shape == (100, 32, 32, 3)
    assert "cifar10" in found.name and "32 px" in found.name
