"""Damaged graph files: the graph that stands there, or an error that names it.

Never another exception, a hang, or a silent change of a node. Examples are
drawn by hypothesis: some hundred whenever tests run, and many in
`make test-all`.
"""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evonorm_tf import catalog, graphs
from evonorm_tf.graphs import primitives

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-20, 20)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*primitives.PRIMITIVES, "op", "in", "nodes"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)

# What JSON is made of, so that some of the damaged files can be read.
PIECES = [b"0", b"1", b"12", b"-", b"e9", b".5", b"[", b"}", b'"', b",", b" "]


def _paths(value, start=()):
    """The path of everything inside of a JSON value."""
    inside = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    for key, one in inside:
        yield (*start, key)
        yield from _paths(one, (*start, key))


def _holder(document, path):
    for key in path[:-1]:
        document = document[key]
    return document


@st.composite
def documents(draw):
    """A valid graph's JSON with one to three changes of its structure."""
    graph = draw(st.sampled_from(sorted(graphs.NAMED)))
    document = copy.deepcopy(graphs.NAMED[graph].to_json())
    if draw(st.booleans()):
        document["name"] = graph
    for _ in range(draw(st.integers(0, 3))):
        paths = list(_paths(document))
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        holder, key = _holder(document, path), path[-1]
        action = draw(st.sampled_from(["set", "set", "remove", "add", "copy"]))
        if action == "remove":
            del holder[key]
        elif action == "set":
            holder[key] = draw(VALUES)
        else:
            new = draw(VALUES) if action == "add" else holder[key]
            if isinstance(holder, list):
                holder.insert(key, new)
            else:
                holder[draw(st.text(max_size=6))] = new
    return json.dumps(document).encode()


@st.composite
def damaged(draw):
    """The bytes of a graph's file, some of them replaced or cut out."""
    graph = draw(st.sampled_from(sorted(graphs.NAMED)))
    content = json.dumps(graphs.NAMED[graph].to_json()).encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.integers(0, 6))
        piece = draw(st.binary(max_size=4) | st.sampled_from(PIECES))
        content = content[:start] + piece + content[end:]
    return content


def _examine(path, content):
    """Fails unless the outcome is right."""
    path.write_bytes(content)
    try:
        row = catalog.get(str(path))
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 1200
        return
    document = json.loads(content)
    assert row.spec["nodes"] == [
        {"op": node["op"], "in": node["in"]} for node in document["nodes"]
    ]
    for node in document["nodes"]:
        assert all(type(number) is int for number in node["in"])
    assert row.spec.get("name") == document.get("name")
    # It is found again by what a layer's configuration stores of it.
    assert catalog.get(json.loads(json.dumps(row.spec))) is row


@pytest.mark.parametrize(
    "count", [200, pytest.param(20_000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", [documents, damaged])
def test_a_damaged_file_is_the_graph_or_an_error(kind, count, tmp_path):
    path = tmp_path / "layer.json"

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=count < 1000,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind())
    def examine(content):
        _examine(path, content)

    examine()
