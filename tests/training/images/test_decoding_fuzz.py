"""Damaged image files: the right pixels or an error that names the file."""

import contextlib

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tests.training.images import pictures
from training.images import decoding

FILES = pictures.accepted()
ENDED = pictures.jpegs() | pictures.pngs()
_HEADER = 200  # Bytes in which a change does most harm.
# Builds of libjpeg round coefficients beyond what 8 bits can show differently;
# damage makes such. Whole images differ by at most 1, see test_decoding.py.
_ROUNDING = 4
# The segments of Adobe, and of pixels.
_APP14, _SCAN = b"\xff\xee", b"\xff\xda"


def _places(length):
    """Where a change begins: half of the time in the header."""
    anywhere = st.integers(0, max(length - 1, 0))
    return st.integers(0, min(length, _HEADER)) | anywhere


@st.composite
def damaged(draw):
    """A file's name, and its content with a few changes."""
    name = draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[name])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(_places(len(content)))
        end = at + draw(st.sampled_from([1, 2, 4, 16, 200]))
        change = draw(st.sampled_from(["set", "cut", "drop", "put", "twice"]))
        if change == "set":
            new = draw(st.binary(min_size=1, max_size=4))
            content[at : at + len(new)] = new
        elif change == "cut":
            del content[at:]
        elif change == "drop":
            del content[at:end]
        elif change == "put":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            content[at:at] = content[at:end]
    return name, bytes(content)


@pytest.fixture(scope="module")
def graph():
    """`decoding.full_image` as a pipeline calls it."""
    text = tf.TensorSpec([], tf.string)
    return tf.function(decoding.full_image, input_signature=[text, text])


def _read(content):
    """Its pixels; None where they are refused by name."""
    try:
        return decoding.read(content, "dir/f").pixels
    except ValueError as error:
        assert str(error).startswith("dir/f cannot be read as an image: ")
        return None


def _read_in_graph(graph, content):
    try:
        return graph(content, "dir/f").numpy()
    except tf.errors.InvalidArgumentError as error:
        assert "dir/f cannot be read as an image: " in error.message
        return None


def _says_adobe(content):
    """Whether undamaged segments lead to the one that says what CMYK means."""
    at = 2
    while (kind := content[at : at + 2])[:1] == b"\xff" and kind != _SCAN:
        if kind == _APP14:
            return content[at + 4 : at + 9] == b"Adobe"
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return False


def _check(graph, name, content):
    found = _read(content)
    in_graph = _read_in_graph(graph, content)
    assert (found is None) == (in_graph is None)
    if found is None:
        return
    assert found.dtype == np.uint8 and found.shape[2:] == (3,)
    np.testing.assert_array_equal(in_graph, found)
    # What Pillow makes of the same bytes, if it makes something of them. Where
    # no segment says what CMYK means, it takes Adobe's, and we the usual one.
    expected = found.astype(int)
    if "CMYK" not in name or _says_adobe(content):
        with contextlib.suppress(Exception):
            expected = pictures.on_white(content).astype(int)
    assert expected.shape == found.shape
    assert np.abs(expected - found).max(initial=0) <= _ROUNDING
    if name.startswith("png"):  # Its pixels have checksums.
        original = decoding.read(FILES[name], name).pixels
        np.testing.assert_array_equal(found, original)
    if name in ENDED:
        again = _read(content + b"\0\0")
        assert again is None or np.array_equal(again, found)


_SETTINGS = {
    "deadline": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "database": None,
}


def test_adobe_is_looked_for_in_a_segment_of_its_own():
    content = FILES["jpeg CMYK"]
    at = content.index(b"\xff\xee\x00\x0eAdobe")
    assert _says_adobe(content)
    # Found by fuzzing: the head of the segment twice, the second in the first.
    assert not _says_adobe(content[: at + 4] + content[at:])
    assert not _says_adobe(content[:2])
    assert not _says_adobe(content[:at] + b"\0" + content[at:])


@hypothesis.settings(max_examples=150, derandomize=True, **_SETTINGS)
@hypothesis.given(damaged())
def test_a_damaged_file_is_read_right_or_refused(graph, file):
    _check(graph, *file)


@pytest.mark.slow
@hypothesis.settings(max_examples=20_000, **_SETTINGS)
@hypothesis.given(damaged())
def test_20_000_damaged_files_are_read_right_or_refused(graph, file):
    _check(graph, *file)
