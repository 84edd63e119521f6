"""Files and values that are no graph: what is wrong, in a line or a few."""

import json

import pytest

from evonorm_tf import catalog, graphs
from evonorm_tf.graphs import stored

S0 = graphs.NAMED["evonorm_s0"]
NODES = json.dumps(S0.to_json()["nodes"])
DEEP = 100_000


def text(**fields):
    """A file's text, each field given as JSON."""
    fields = {"version": "1", "nodes": NODES, **fields}
    return "{" + ", ".join(f'"{k}": {v}' for k, v in fields.items()) + "}"


def nodes(number):
    """Ten nodes whose first has that number as its input."""
    node = f'{{"op": "tanh", "in": [{number}]}}'
    return text(nodes="[" + ", ".join([node] * 10) + "]")


@pytest.fixture
def refused(tmp_path):
    """The message for a file with such bytes; names the file, and is short."""

    def read(content):
        path = tmp_path / "layer.json"
        path.write_bytes(content)
        with pytest.raises(ValueError) as error:
            catalog.get(str(path))
        message = str(error.value)
        assert str(path) in message
        assert len(message) < 1200
        return message

    return read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON: it is empty"),
        (b" \n", "not JSON: it is empty"),
        (b"\x00" * 100, "not JSON"),
        (b"\x80\x03}q\x00.", "not UTF-8"),
        (text(name='"caf\xe9"').encode("latin-1"), "not UTF-8"),
        (text().encode("utf-16"), "not UTF-8"),
        (text().encode()[:-9], "not JSON: Expecting"),
        (b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
        (b'{"a":' * DEEP + b"0" + b"}" * DEEP, "nested too deeply"),
        (
            text(about="[" * DEEP + "]" * DEEP).encode(),
            "nested too deeply",
        ),
        (text(version="1" * 5000).encode(), "11111111... has 5000 digits"),
        (nodes("9" * 30).encode(), "99999999... has 30 digits"),
        (b'{"version": 1, ' + text().encode()[1:], "'version' stands there tw"),
        (
            b'{"version": 1, "nodes": [{"op": "neg", "op": "exp", "in": [0]}]}',
            "the key 'op' stands there twice",
        ),
        (b"[1, 2]", "Not a graph.*mapping.*[1, 2]"),
        (b"null", "mapping"),
    ],
    ids=range(16),
)
def test_a_file_that_is_none_says_what_is_wrong(content, message, refused):
    found = refused(content)
    assert all(part in found for part in message.split(".*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nodes("NaN"), "Node n4: an input.*inputs=(nan,)"),
        (nodes("Infinity"), "Node n4: an input.*inputs=(inf,)"),
        (nodes("-Infinity"), "Node n4: an input.*inputs=(-inf,)"),
        (nodes("1e999"), "Node n4: an input.*inputs=(inf,)"),
        (nodes("-1"), "Node n4: an input.*inputs=(-1,)"),
        (nodes("0.0"), "Node n4: an input.*inputs=(0.0,)"),
        (nodes("123456789012"), "Node n4: an input.*inputs=(123456789012,)"),
        (nodes("4"), "Node n4: an input.*would close a cycle"),
        (nodes("[[[[[[0]]]]]]"), "Node n4: an input"),
        (nodes("0, " * 10_000 + "0"), "Node n4: tanh takes 1"),
        (text(version="NaN"), "version=nan"),
        (text(version="true"), "version=True"),
        (text(version="1.0"), "version=1.0"),
        (text(version='"1"'), "version='1'"),
        (text(nodes="[" + "0," * 99_999 + "0]"), "Node n4: expected"),
        (text(nodes='"' + "n" * 10**6 + '"'), "`nodes` must be a list"),
        (text(name="NaN"), "name must be a string.*name=nan"),
        (text(name="[" * 100 + "]" * 100), "name must be a string"),
        (text(**{"x" * 10_000: "0"}), "only the keys version, nodes"),
    ],
    ids=range(19),
)
def test_a_file_of_no_graph_says_which_part_is_wrong(content, message, refused):
    found = refused(content.encode())
    assert all(part in found for part in message.split(".*"))


def test_a_folder_and_a_file_that_is_too_large_are_named(tmp_path, monkeypatch):
    folder = tmp_path / "folder.json"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"Is a directory.*folder\.json"):
        catalog.get(str(folder))
    monkeypatch.setattr(stored, "_MOST", 1000)
    path = tmp_path / "large.json"
    path.write_text(text() + " " * 1000)
    with pytest.raises(ValueError, match=r"larger than 1000.*large\.json"):
        catalog.get(path)


def test_what_stands_beside_a_graph_may_be_anything(tmp_path):
    # A search writes what it found, and of a rejected layer that is NaN.
    path = tmp_path / "layer.json"
    for about in ("NaN", "-Infinity", "1e999", '{"loss": [NaN, {}]}', '"\xe9"'):
        path.write_text(text(about=about), encoding="utf-8")
        assert catalog.get(str(path)).spec == S0.to_json()


def test_huge_and_nested_values_in_memory_are_refused_in_a_line():
    deep = []
    for _ in range(DEEP):
        deep = [deep]
    huge = 10**5000  # More digits than Python prints.
    good = S0.to_json()
    for value in (huge, -huge, deep, "x" * 10**6, {"a": deep}):
        for change in (
            {"version": value},
            {"nodes": value},
            {"nodes": [value] * 10},
            {"nodes": [{"op": value, "in": [0]}] * 10},
            {"nodes": [{"op": "tanh", "in": [value]}] * 10},
            {"nodes": [{"op": "tanh", "in": value}] * 10},
        ):
            with pytest.raises((ValueError, TypeError)) as error:
                graphs.from_json({**good, **change})
            assert "Received: " in str(error.value)
            assert len(str(error.value)) < 600
        for call in (graphs.from_json, graphs.parse, graphs.Graph):
            with pytest.raises((ValueError, TypeError)) as error:
                call(value)
            assert "Received: " in str(error.value)
            assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("", ValueError, "1 to 10 computing nodes.*0 nodes"),
        (" ; ;", ValueError, "1 to 10 computing nodes.*0 nodes"),
        ("n13=tanh(x);" * 10_000, ValueError, "10000 nodes"),
        ("n13=tanh(" * DEEP, ValueError, "Expected node n13"),
        ("n13=tanh(" + "y," * DEEP + "x)", ValueError, "n13: an input.*'y'"),
        ("n٣=tanh(x)", ValueError, "Expected node n13"),
        (None, TypeError, "text form.*Received: None"),
        (b"n13=tanh(x)", TypeError, r"Received: b'n13=tanh\(x\)'"),
    ],
)
def test_text_that_is_none_says_so(given, error, message):
    with pytest.raises(error, match=message) as raised:
        graphs.parse(given)
    assert len(str(raised.value)) < 400
