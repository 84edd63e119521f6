"""One rule for image files: right pixels or an error that names the file."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.training.images import pictures
from training.images import decoding

ACCEPTED = pictures.accepted()
REFUSED = pictures.refused()
# Others cannot have them, or do not end.
ENDED = pictures.jpegs() | pictures.pngs()


@pytest.fixture(scope="module")
def graph():
    """`decoding.full_image` as a pipeline calls it."""
    text = tf.TensorSpec([], tf.string)
    return tf.function(decoding.full_image, input_signature=[text, text])


@pytest.mark.parametrize("name", ACCEPTED)
def test_pixels_are_those_of_pillow(name, graph):
    found = decoding.read(ACCEPTED[name], "x")
    expected = pictures.on_white(ACCEPTED[name])
    # Exact, but for how a share of white is rounded.
    tolerance = 1 if found.transparent else 0
    difference = np.abs(found.pixels.astype(int) - expected)
    assert difference.max() <= tolerance
    np.testing.assert_array_equal(graph(ACCEPTED[name], "x"), found.pixels)
    if name in ENDED:
        # What else decides of a file's fate than its end.
        for more in (b"\0", b"more\xff\xd9", b"\0IEND\xaeB`\x82"):
            longer = ACCEPTED[name] + more
            again = decoding.read(longer, "x")
            np.testing.assert_array_equal(again.pixels, found.pixels)
            np.testing.assert_array_equal(graph(longer, "x"), found.pixels)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_file_is_named_with_the_reason(name, graph):
    content, reason = REFUSED[name]
    for more in (b"", b"\0"):
        with pytest.raises(ValueError) as error:
            decoding.read(content + more, "dir/f.png", "Paint it anew.")
        assert str(error.value).startswith("dir/f.png cannot be read")
        assert "Paint it anew." in str(error.value)
        if content:  # A byte is no longer nothing.
            assert reason in str(error.value)
        with pytest.raises(tf.errors.InvalidArgumentError) as in_graph:
            graph(content + more, "dir/f.png")
        assert "dir/f.png cannot be read" in in_graph.value.message
        assert "Traceback" not in in_graph.value.message


def test_white_of_12_bits_is_never_12_of_255():
    content = pictures.encoded(Image.fromarray(pictures.DEEP), "PNG")
    for more in (b"", b"\0"):
        with pytest.raises(ValueError, match="16 bits per channel"):
            decoding.read(content + more, "x.png")


def test_transparent_pixels_are_white_and_counted():
    pixels = np.zeros((4, 5, 4), np.uint8)
    pixels[0, :3, 3] = 255
    pixels[0, 3] = 10, 20, 30, 102
    found = decoding.read(pictures.encoded(Image.fromarray(pixels), "PNG"), "x")
    assert found.transparent == 17
    assert (found.pixels[0, :3] == 0).all()
    assert (found.pixels[1:] == 255).all()
    assert found.pixels[0, 3].tolist() == [157, 161, 165]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_part_is_that_of_the_whole(kind):
    image = pictures.COLOUR.resize((64, 48))
    content = pictures.encoded(image, kind)
    whole = decoding.read(content, "x").pixels.astype(int)
    part = decoding.window(
        tf.constant(content),
        tf.constant("x"),
        lambda shape: tf.stack([9, 13, shape[0] - 18, 41]),
    )
    difference = np.abs(part.numpy() - whole[9:39, 13:54])
    # The chroma at the border of a JPEG's part lacks its neighbours.
    inside = difference[1:-1, 1:-1] if kind == "JPEG" else difference
    assert inside.max() == 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="x cannot be"):
        decoding.window(
            tf.constant(content[:-20]),
            tf.constant("x"),
            lambda shape: tf.concat([[0, 0], shape[:2]], 0),
        )


def test_a_part_outside_of_a_jpeg_names_the_file():
    content = pictures.encoded(pictures.COLOUR, "JPEG")
    with pytest.raises(tf.errors.InvalidArgumentError, match="no such part"):
        decoding.window(
            tf.constant(content),
            tf.constant("x"),
            lambda shape: shape[0] + tf.constant([0, 0, 1, 1]),
        )


def test_the_exported_decoder_agrees():
    text = tf.TensorSpec([], tf.string)
    decode = tf.function(decoding.exportable, input_signature=[text])
    for name, content in ENDED.items():
        found = decoding.read(content, name).pixels
        np.testing.assert_array_equal(decode(content), found, err_msg=name)
    with pytest.raises(tf.errors.InvalidArgumentError, match="16 bits"):
        decode(REFUSED["png of 16 bits"][0])
    operations = {
        node.op
        for function in decode.get_concrete_function()
        .graph.as_graph_def()
        .library.function
        for node in function.node_def
    }
    assert "DecodePng" in operations and "PyFunc" not in operations


def test_any_format_becomes_a_jpeg_or_png_of_the_same_pixels():
    for name, content in ACCEPTED.items():
        standard, kind = decoding.standardize(content, name)
        assert kind in decoding.FORMATS
        assert (standard == content) == (name in ENDED)
        again = decoding.read(standard, name).pixels
        expected = decoding.read(content, name).pixels
        np.testing.assert_array_equal(again, expected, err_msg=name)
