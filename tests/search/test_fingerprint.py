"""Fingerprints: one function, one training, under many expressions."""

import pytest

from evonorm_tf import graphs
from evonorm_tf.search import fingerprint, space


def test_functions_are_found_under_other_expressions():
    known = fingerprint.Functions()
    for name, graph in graphs.NAMED.items():
        values = fingerprint.function(graph)
        assert known.find(values) is None, name
        known.add(values, name)
    same = {
        # 1 / (1 + exp(-x)), by hand; and relu's max as half of x + |x|, twice.
        "evonorm_s1": "n6=neg(x); n7=exp(n6); n8=exp(zero); n9=add(n8,n7); "
        "n10=div(x,n9); n11=std_whg(x); n12=abs(n11); n13=div(n10,n12)",
        "evonorm_b2": "n7=std_bwh(x); n8=rms_wh(x); n9=neg(n8); "
        "n10=add(x,n9); n11=neg(n10); n12=max(n11,n7); n13=div(x,n12)",
    }
    for name, text in same.items():
        graph = graphs.parse(text)
        assert graphs.key(graph) != graphs.key(graphs.NAMED[name])
        assert known.find(fingerprint.function(graph)) == name
    other = graphs.parse("n12=tanh(x); n13=mul(x,n12)")
    assert known.find(fingerprint.function(other)) is None


RELU = "n13=max(zero,x)"
SAME_TRAINING = [
    # v0 starts at 0, where its square has no slope: it stays there.
    (RELU, "n12=square(v0); n13=max(x,n12)"),
    (
        "n13=tanh(x)",
        "n10=square(v0); n11=add(x,n10); n12=neg(n11); n13=tanh(n11)",
    ),
]
OTHER_TRAINING = [
    (RELU, "n13=max(v0,x)"),
    ("n13=tanh(x)", "n12=mul(x,v1); n13=tanh(n12)"),
    # log(v1) starts at 0, but with a slope of 1.
    ("n13=tanh(x)", "n11=log(v1); n12=add(x,n11); n13=tanh(n12)"),
    (RELU, "n13=tanh(x)"),
]


def trainings(pair):
    return [fingerprint.training(graphs.parse(text)) for text in pair]


@pytest.mark.parametrize("pair", SAME_TRAINING)
def test_a_vector_that_never_moves_makes_no_new_training(pair):
    functions = [fingerprint.function(graphs.parse(text)) for text in pair]
    known = fingerprint.Functions()
    known.add(functions[0], "first")
    assert known.find(functions[1]) is None
    first, second = trainings(pair)
    known = fingerprint.Functions()
    known.add(first, "first")
    assert known.find(second) == "first"


@pytest.mark.parametrize("pair", OTHER_TRAINING)
def test_a_vector_that_moves_makes_one(pair):
    first, second = trainings(pair)
    known = fingerprint.Functions()
    known.add(first, "first")
    assert known.find(second) is None


def test_equal_functions_have_equal_trainings():
    # x*v1 under two names; rounding apart, nothing may differ.
    a, b = trainings(
        ("n13=mul(x,v1)", "n11=neg(v1); n12=mul(x,n11); n13=neg(n12)")
    )
    assert abs(a - b).max() <= 1e-6 * abs(a).max()


def test_a_fingerprint_does_not_depend_on_how_a_graph_is_written():
    rng = space.generator(4, 0)
    seen = 0
    while seen < 100:
        graph = space.random_graph(rng, space.SPACES["b"])
        values = fingerprint.training(graph)
        if values is None:
            continue
        again = fingerprint.training(graphs.canonical(graph))
        assert (values == again).all()
        seen += 1
