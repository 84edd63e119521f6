"""Graphs as Graphviz text, and as PNG where dot is installed."""

import pathlib
import re
import shutil
import stat

import pytest

from evonorm_tf import graphs
from evonorm_tf.graphs.graph import INITIAL
from tests.graphs.test_graph import some_graphs

S0 = graphs.NAMED["evonorm_s0"]


def read(text):
    """(labels by node, edges) of Graphviz text that `dot` wrote."""
    labels = dict(re.findall(r'  n(\d+) \[label="([^"]*)"', text))
    edges = re.findall(r"  n(\d+) -> n(\d+)", text)
    return {int(k): v for k, v in labels.items()}, [
        (int(a), int(b)) for a, b in edges
    ]


def test_the_picture_has_the_live_nodes_and_their_edges():
    for graph in [*graphs.NAMED.values(), *some_graphs(50)]:
        labels, edges = read(graphs.dot(graph))
        live = graph.live()
        wanted = {i: graph[i].op for i in live}
        wanted |= {i: INITIAL[i] for i in graph.uses() if i < 4}
        assert labels == wanted
        assert edges == [(k, i) for i in live for k in graph[i].inputs]


def test_the_inputs_of_a_division_are_told_apart():
    lines = graphs.dot(S0).splitlines()
    assert '  n12 -> n13 [label="1"];' in lines
    assert '  n10 -> n13 [label="2"];' in lines
    assert "  n9 -> n11;" in lines


def test_without_dot_a_png_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"not installed.*path="):
        graphs.png(S0, str(tmp_path / "s0.png"))


def test_png_hands_the_text_to_dot(tmp_path, monkeypatch):
    # A stand-in keeps what it is given: dot itself is not everywhere.
    fake = tmp_path / "dot"
    fake.write_text(f'#!{shutil.which("sh")}\ncat > "$3"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "s0.png"
    graphs.png(S0, str(path))
    assert pathlib.Path(path).read_text() == graphs.dot(S0)
    fake.write_text(f"#!{shutil.which('sh')}\necho no >&2; exit 1\n")
    with pytest.raises(RuntimeError, match="`dot` failed: no"):
        graphs.png(S0, str(path))
