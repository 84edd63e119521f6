"""Graphs: validation, text and JSON, canonical form, formulas."""

import json
import random
import re

import numpy as np
import pytest

from evonorm_tf import graphs
from evonorm_tf.graphs import evaluate
from evonorm_tf.graphs.graph import PADDING, SIZE
from evonorm_tf.graphs.primitives import GUARD, NUMPY, PRIMITIVES
from evonorm_tf.search import space

S0 = graphs.NAMED["evonorm_s0"]


def some_graphs(count, seed=0):
    rng = random.Random(seed)
    return [space.random_graph(rng, space.SPACES["b"]) for _ in range(count)]


def inputs(seed=0, shape=(3, 5, 8)):
    rng = np.random.default_rng(seed)
    vector = (1, 1, shape[-1])
    return [
        rng.standard_normal(shape) + 0.3,
        np.zeros((1, 1, 1)),
        0.2 * rng.standard_normal(vector),
        1.0 + 0.2 * rng.standard_normal(vector),
    ]


def test_there_are_24_primitives_in_the_papers_proportions():
    axes = [p.axes for p in PRIMITIVES.values() if p.axes]
    assert len(PRIMITIVES) == 24
    assert {a: axes.count(a) for a in axes} == {
        "bwh": 3,
        "whc": 3,
        "wh": 3,
        "whg": 3,
    }
    assert sum(p.arity == 2 for p in PRIMITIVES.values()) == 4


def test_guards_hold_at_zero_and_vanish_away_from_it():
    zero, tiny = np.zeros(1), np.array([-GUARD / 10])

    def value(op, *p):
        return PRIMITIVES[op].value(NUMPY, *p)

    one = np.ones(1)
    assert value("div", one, zero) == 1 / GUARD
    assert value("div", one, tiny) == -1 / GUARD
    assert value("log", tiny) == -np.log(GUARD)
    assert value("log", zero) == 0 == value("sqrt", zero)
    assert value("sqrt", tiny) == -np.sqrt(GUARD)
    p = np.array([-2.0, 3.0])
    np.testing.assert_array_equal(value("div", p, p[::-1]), p / p[::-1])
    np.testing.assert_array_equal(
        value("log", p), np.sign(p) * np.log(np.abs(p))
    )
    np.testing.assert_array_equal(
        value("sqrt", p), np.sign(p) * np.sqrt(np.abs(p))
    )


def test_text_and_json_round_trip():
    for graph in [*some_graphs(200), *graphs.NAMED.values()]:
        assert graphs.parse(graph.text()) == graph
        assert graphs.from_json(graph.to_json()) == graph
        assert hash(graphs.parse(graph.text())) == hash(graph)


def test_numpys_integers_are_stored_as_pythons():
    s0 = graphs.NAMED["evonorm_s0"]
    graph = graphs.Graph([(op, np.array(inputs)) for op, inputs in s0.nodes])
    assert graph == s0
    assert json.loads(json.dumps(graph.to_json())) == s0.to_json()


def test_canonical_keeps_the_function_and_is_idempotent():
    given = inputs()
    finite = 0
    with np.errstate(all="ignore"):
        for graph in some_graphs(500):
            form = graphs.canonical(graph)
            assert graphs.canonical(form) == form
            assert graphs.key(form) == graphs.key(graph)
            got, wanted = (
                evaluate.evaluate_numpy(g, given, 4) for g in (form, graph)
            )
            # Sorted inputs: p + q and q + p are the same to the last bit.
            np.testing.assert_array_equal(got, wanted)
            finite += np.isfinite(wanted).all()
    assert finite > 450  # or the comparison would say little


def test_key_forgets_order_duplicates_and_dead_nodes():
    same = (
        "n9=mul(v1,x); n10=sigmoid(n9); n11=std_whg(x); n12=mul(n10,x); "
        "n13=div(n12,n11)",
        "n7=std_whg(x); n8=tanh(x); n9=mul(x,v1); n10=mul(v1,x); "
        "n11=sigmoid(n10); n12=mul(x,n11); n13=div(n12,n7)",
    )
    assert {graphs.key(graphs.parse(text)) for text in same} == {graphs.key(S0)}
    other = "n11=sigmoid(x); n12=std_whg(x); n13=div(n12,n11)"
    swapped = "n11=sigmoid(x); n12=std_whg(x); n13=div(n11,n12)"
    assert graphs.key(graphs.parse(other)) != graphs.key(graphs.parse(swapped))


def test_formulas():
    assert graphs.formula(S0) == "x*sigmoid(x*v) / sqrt(var_hw,c/g(x))"
    assert graphs.formula(graphs.NAMED["gn_silu"]) == (
        "a*sigmoid(a), a = v0 + v*((x - mean_hw,c/g(x)) / sqrt(var_hw,c/g(x)))"
    )
    assert graphs.latex(graphs.NAMED["evonorm_s2"]) == (
        r"\frac{x\,\sigma(x)}{\sqrt{\mathrm{E}_{h,w,c/g}[x^2]}}"
    )


class Guarded(np.ndarray):
    """An array whose / is the search space's division."""

    def __truediv__(self, other):
        quotient = PRIMITIVES["div"].value
        return quotient(NUMPY, np.asarray(self), np.asarray(other)).view(
            Guarded
        )


@pytest.mark.parametrize("graph", some_graphs(60, 1), ids=range(60))
def test_formula_means_what_the_graph_computes(graph):
    # Python reads the ASCII formula: precedence and parentheses are right.
    text = graphs.formula(graph).replace("hw,c/g", "hwg").replace("^", "**")
    text = re.sub(r"\b0\b", "zero", text)
    given = inputs(3)
    names = dict(zip(("x", "zero", "v0", "v"), given)) | functions()
    names = {
        k: v.view(Guarded) if isinstance(v, np.ndarray) else v
        for k, v in names.items()
    }
    whole, *shared = re.split(r", (?=[a-j] = )", text)
    with np.errstate(all="ignore"):
        for line in shared:
            name, value = line.split(" = ")
            names[name] = eval(value, {}, names)
        got = np.asarray(eval(whole, {}, names))
        wanted = evaluate.evaluate_numpy(graph, given, 4)
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def functions():
    """What a formula calls, each from Python's own operations."""

    def value(op):
        return lambda *p: PRIMITIVES[op].value(NUMPY, *p)

    def moment(statistic, axes):
        average = evaluate._AVERAGES[axes]

        def take(p):
            if statistic == "mean":
                return average(p, 4).view(Guarded)
            return average((p - average(p, 4)) ** 2, 4).view(Guarded)

        return take

    names = {"bwh": "bhw", "whc": "hwc", "wh": "hw", "whg": "hwg"}
    called = {
        f"{s}_{name}": moment(s, axes)
        for s in ("mean", "var")
        for axes, name in names.items()
    }
    called |= {op: value(op) for op in ("max", "sigmoid", "tanh", "exp", "abs")}
    called |= {f"signed_{op}": value(op) for op in ("log", "sqrt")}
    return called | {"sqrt": lambda p: np.sqrt(p + 1e-5)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n13=sigmoid(n13)", "n13.*earlier node.*'n13'|earlier node"),
        ("n13=mul(x)", "n13: mul takes 2"),
        ("n13=sigmod(x)", "n13.*Did you mean sigmoid"),
        ("n12=tanh(x); n12=tanh(x)", "Expected node n13"),
        ("n13=tanh(y)", "n13.*'y'"),
        ("nonsense", "Expected node n13"),
        ("; ".join(f"n{i}=tanh(x)" for i in range(3, 14)), "10 computing"),
    ],
)
def test_malformed_text_names_the_node(text, message):
    with pytest.raises(ValueError, match=message):
        graphs.parse(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version=2"),
        ({"nodes": []}, "10 computing nodes"),
        ({"extra": 1}, "extra"),
        ({"nodes": [{"op": "tanh"}]}, "n4: expected"),
        ({"nodes": [{"op": "tanh", "in": [True]}] * 10}, "n4: an input"),
        ({"nodes": [{"op": "tanh", "in": [4]}] * 10}, "n4.*cycle"),
    ],
)
def test_malformed_json_names_the_node(change, message):
    with pytest.raises(ValueError, match=message):
        graphs.from_json({**S0.to_json(), **change})


def test_a_graph_of_wrong_types_is_refused():
    with pytest.raises(TypeError, match="n4: expected"):
        graphs.Graph((1,) * 10)
    with pytest.raises(TypeError, match="mapping"):
        graphs.from_json([1])
    assert len(graphs.Graph((PADDING,) * 10).nodes) == SIZE - 4
