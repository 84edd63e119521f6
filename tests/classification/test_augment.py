"""Augmentation against Pillow, the Model Garden and what the papers say."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from classification import augment, garden, mixing, randaugment

M = 9.0
FACTOR = M / 10 * 1.8 + 0.1
ONE, PLACE = tf.constant(1.0), tf.constant([0.3, 0.6])
# A level or two where Pillow rounds a grey image that we keep in float.
PILLOW = {
    "AutoContrast": (ImageOps.autocontrast, 1),
    "Equalize": (ImageOps.equalize, 0),
    "Invert": (ImageOps.invert, 0),
    "Posterize": (lambda x: ImageOps.posterize(x, 3), 0),
    "Solarize": (lambda x: ImageOps.solarize(x, 230), 0),
    "Color": (lambda x: ImageEnhance.Color(x).enhance(FACTOR), 2),
    "Contrast": (lambda x: ImageEnhance.Contrast(x).enhance(FACTOR), 2),
    "Brightness": (lambda x: ImageEnhance.Brightness(x).enhance(FACTOR), 1),
    "Sharpness": (lambda x: ImageEnhance.Sharpness(x).enhance(FACTOR), 2),
}


@pytest.fixture(scope="module")
def image():
    """[48, 64, 3], of a narrow range in one channel, a wide one in another."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    pixels = np.asarray(coarse.resize((64, 48), Image.Resampling.BICUBIC))
    return (pixels * [0.4, 1.0, 0.7] + [60, 0, 20]).astype(np.uint8)


def _apply(name, pixels, sign=1.0, magnitude=M, operations=None):
    operation = (operations or randaugment._OPERATIONS)[name]
    out = operation(tf.constant(pixels), magnitude, tf.constant(sign), PLACE)
    assert out.shape == pixels.shape and out.dtype == tf.uint8
    return out.numpy().astype(int)


@pytest.mark.parametrize("name", PILLOW)
def test_colour_operations_are_pillows(image, name):
    reference, tolerance = PILLOW[name]
    expected = np.asarray(reference(Image.fromarray(image))).astype(int)
    found = _apply(name, image)
    assert np.abs(found - expected).max() <= tolerance
    assert np.abs(found - image).max() > 4


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("name", ["AutoContrast", "Equalize", "Contrast"])
def test_a_constant_image_stays_finite_and_constant(name, value):
    pixels = np.full((8, 8, 3), value, np.uint8)
    np.testing.assert_array_equal(_apply(name, pixels), pixels)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", randaugment.OPERATIONS)
def test_operations_equal_the_model_gardens_inside(image, name, sign):
    ours = _apply(name, image, sign)
    theirs = _apply(name, image, sign, operations=garden.OPERATIONS)
    same = (np.abs(ours - theirs) <= 1).all(-1)
    if name == "Contrast":
        return  # Theirs is not Pillow's.
    if name in garden._SIGNED:
        # Where theirs mirrors, ours is grey.
        grey = (ours == 128).all(-1)
        assert grey.any()
        same |= grey
    assert same.all(), 1 - same.mean()


@pytest.mark.parametrize("axis, name", [(1, "TranslateX"), (0, "TranslateY")])
def test_translation_is_a_share_of_the_side(image, axis, name):
    side = image.shape[axis]
    pixels = round(M / 10 * 100 / 224 * side)
    found = _apply(name, image)
    moved = np.roll(image, -pixels, axis)
    kept = [slice(None)] * 2
    kept[axis] = slice(0, side - pixels - 1)
    np.testing.assert_array_equal(found[tuple(kept)], moved[tuple(kept)])
    back = _apply(name, image, -1.0)
    assert (np.take(back, range(pixels - 1), axis) == 128).all()


def test_cutout_is_a_grey_square_cut_off_at_the_border(image):
    square = (_apply("Cutout", image) == 128).all(-1)
    rows, columns = np.flatnonzero(square.any(1)), np.flatnonzero(square.any(0))
    # Half 0.9 * 40 / 224 of 48 and of 64 around (14, 38).
    assert (rows.min(), rows.max()) == (14 - 7, 14 + 6)
    assert (columns.min(), columns.max()) == (38 - 10, 38 + 9)


def test_rand_augment_draws_every_operation_evenly_and_by_its_seed():
    chosen = np.zeros(len(randaugment.OPERATIONS) + 1)

    def marker(index):
        return lambda image, magnitude, sign, place: (
            image + 16 * tf.cast(sign < 0, tf.uint8) + 32 + index
        )

    operations = {n: marker(k) for k, n in enumerate(randaugment.OPERATIONS)}
    blank = tf.zeros([1, 1, 3], tf.uint8)
    negative = 0

    @tf.function
    def draw(seed):
        return randaugment.rand_augment(blank, 1, M, seed, operations)[0, 0, 0]

    draws = [int(draw(tf.constant([0, k]))) for k in range(1700)]
    for value in draws:
        if value == 0:
            chosen[-1] += 1
        else:
            chosen[(value - 32) % 16] += 1
            negative += value >= 48
    # 100 expected of each: 4 standard deviations of a binomial are 39.
    assert np.abs(chosen - 100).max() < 39
    assert abs(negative - 800) < 80
    assert draws[:5] == [int(draw(tf.constant([0, k]))) for k in range(5)]


def test_inception_windows_have_the_papers_areas_and_aspects():
    shape = tf.constant([300, 400, 3])
    windows = tf.map_fn(
        lambda k: augment.inception_window(shape, tf.stack([0, k])),
        tf.range(400),
    ).numpy()
    top, left, height, width = windows.T
    assert (top >= 0).all() and (top + height <= 300).all()
    assert (left >= 0).all() and (left + width <= 400).all()
    area, aspect = height * width / 120_000, width / height
    # Sides are whole pixels: 1 in 80 or so.
    assert area.min() >= 0.08 * 0.97 and area.max() > 0.8
    assert aspect.min() >= 3 / 4 * 0.97 and aspect.max() <= 4 / 3 * 1.03
    assert len({tuple(window) for window in windows}) > 390


@pytest.mark.parametrize("height, width", [(300, 400), (7, 5), (1, 9)])
def test_center_window_is_central_and_square(height, width):
    top, left, side, other = augment.center_window(
        tf.constant([height, width, 3]), 224
    ).numpy()
    # 224 / (224 + 32): the 87.5 % of ResNet's public code.
    assert side == other == max(int(min(height, width) * 0.875), 1)
    assert abs(top - (height - side) / 2) < 1
    assert abs(left - (width - side) / 2) < 1


@pytest.mark.parametrize("size, side", [(32, 262), (224, 262), (600, 284)])
def test_center_window_grows_with_the_image_size(size, side):
    window = augment.center_window(tf.constant([300, 400, 3]), size)
    # 300 size / (size + 32), cut off: 262.5 and 284.8; never below 7/8.
    assert window[2:].numpy().tolist() == [side, side]


def _one_colour_each(count, size=(20, 24)):
    """Image k holds k alone, so that a mean tells the mixed shares."""
    values = np.arange(count, dtype=np.float32)[:, None, None, None]
    return tf.constant(np.broadcast_to(values, (count, *size, 3)))


@pytest.mark.parametrize("mixup, cutmix", [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_labels_hold_the_exact_share_of_the_pixels(mixup, cutmix):
    count = 64
    images = _one_colour_each(count)
    mixed, target = mixing.mix(
        images, tf.range(count), count, mixup, cutmix, tf.constant([0, 1])
    )
    mixed, target = mixed.numpy(), target.numpy()
    own = target[np.arange(count), np.arange(count)]
    neighbour = target[np.arange(count), np.arange(count) - 1]
    # float32, of values up to 64.
    np.testing.assert_allclose(own + neighbour, 1, atol=1e-6)
    np.testing.assert_allclose(
        mixed.mean((1, 2, 3)), target @ np.arange(count), atol=1e-4
    )
    levels = np.array([len(np.unique(image)) for image in mixed])
    boxes = levels == 2
    if cutmix:
        # Both, or one image where the box is empty or everything.
        assert boxes.sum() > 0.25 * count
        inside = mixed[boxes] != images.numpy()[boxes]
        rows, columns = inside.any((2, 3)), inside.any((1, 3))
        np.testing.assert_array_equal(
            inside[..., 0], rows[:, :, None] & columns[:, None]
        )
    if not mixup:
        assert levels.max() == 2
    if not cutmix:
        assert levels.max() == 1


@pytest.mark.parametrize("alpha", [0.1, 1.0, 4.0])
def test_mixup_shares_are_beta(alpha):
    count = 4000
    images = tf.zeros([count, 1, 1, 1])
    labels = tf.constant([0, 1] * (count // 2))
    _, target = mixing.mix(images, labels, 2, alpha, 0.0, tf.constant([0, 0]))
    share = target.numpy()[np.arange(count), 1 - labels.numpy()]
    assert np.isfinite(share).all()
    variance = 1 / (4 * (2 * alpha + 1))
    # 4 standard deviations of a mean; of a variance, at most a tenth of it.
    assert abs(share.mean() - 0.5) < 4 * np.sqrt(variance / count)
    assert abs(share.var() / variance - 1) < 0.1


def test_cutmix_shares_are_those_of_boxes_cut_off():
    """E[share] of a box of side sqrt(s), s uniform, its centre anywhere."""
    count, size = 2000, 32
    _, target = mixing.mix(
        tf.zeros([count, size, size, 1]),
        tf.constant([0, 1] * (count // 2)),
        2,
        0.0,
        1.0,
        tf.constant([0, 0]),
    )
    share = target.numpy()[np.arange(count), [1, 0] * (count // 2)]
    # A side a keeps a - a^2/4 of itself on average: E over a = sqrt(s) of
    # (a - a^2/4)^2 is 1/2 - 1/5 + 1/48; halves are cut to whole pixels.
    assert abs(share.mean() - (1 / 2 - 1 / 5 + 1 / 48)) < 0.03


def test_a_batch_of_one_cannot_be_mixed():
    with pytest.raises(ValueError, match="images per replica=1"):
        mixing.mix(
            tf.zeros([1, 2, 2, 1]),
            tf.range(1),
            2,
            1.0,
            0.0,
            tf.constant([0, 0]),
        )


def test_why_the_model_gardens_cutmix_is_not_the_default():
    """Its labels' share is not that of the pixels; ours is, see above."""
    count = 64
    tf.random.set_seed(0)
    mixed, target = garden.mix(
        _one_colour_each(count), tf.range(count), count, 0.0, 1.0
    )
    gap = mixed.numpy().mean((1, 2, 3)) - target.numpy() @ np.arange(count)
    assert np.abs(gap).max() > 1
