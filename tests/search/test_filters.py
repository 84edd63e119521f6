"""The cheap filters: what each rejects, and that good layers pass."""

import numpy as np
import pytest

from evonorm_tf import graphs
from evonorm_tf.graphs.primitives import PRIMITIVES
from evonorm_tf.search import filters, space

ALL, NONE = filters.Filters(), filters.Filters.none()


def verdict(text, flags=ALL):
    graph = graphs.parse(text)
    reason = filters.structural(graph, flags)
    return reason or filters.numeric(graph, flags)[0]


@pytest.mark.parametrize("name", graphs.NAMED)
def test_known_layers_pass(name):
    graph = graphs.NAMED[name]
    assert filters.structural(graph, ALL) is None
    reason, values = filters.numeric(graph, ALL)
    assert reason is None
    assert values.shape == (96,)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("ancestor", "n12=exp(v0); n13=mul(n12,v1)"),
        ("ancestor", "n11=tanh(x); n12=exp(v0); n13=mul(n12,v1)"),
        ("axes", "n13=mean_bwh(x)"),
        ("axes", "n12=rms_whc(x); n13=mul(n12,v1)"),
        ("axes", "n12=std_whg(x); n13=add(n12,v0)"),
        ("finite", "n11=exp(x); n12=exp(n11); n13=exp(n12)"),
        ("large", "n10=exp(x); n11=square(n10); n12=square(n11); "
         "n13=square(n12)"),
        ("constant", "n12=neg(x); n13=add(x,n12)"),
        ("spatial", "n10=neg(x); n11=add(x,n10); n12=mean_wh(x); "
         "n13=add(n11,n12)"),
        ("gradient", "n12=abs(x); n13=div(x,n12)"),
    ],
)  # fmt: skip
def test_each_filter_has_its_cases_and_its_flag(reason, text):
    assert verdict(text) == reason
    others = {
        name: name != reason for name in filters.Filters.__dataclass_fields__
    }
    assert verdict(text, filters.Filters(**others)) != reason
    assert verdict(text, NONE) is None


def test_axes_agree_with_what_the_probes_show():
    # What the filter says cannot vary does not: over three axes, one by one.
    rng = space.generator(2, 0)
    seen = 0
    flags = filters.Filters(*(n == "axes" for n in ALL.__dataclass_fields__))
    with np.errstate(all="ignore"):
        for _ in range(3000):
            graph = space.random_graph(rng, space.SPACES["b"])
            if filters.structural(graph, flags) != "axes":
                continue
            x, *rest = filters.PROBES[0]
            y = filters.evaluate_numpy(graph, [x, *rest], filters.GROUPS)
            y = np.broadcast_to(y, x.shape)
            groups = y.reshape(4, 16, 4, 2)
            spread = [np.ptp(y, axis=a).max() for a in (0, 1)]
            spread.append(np.ptp(groups, axis=(2, 3)).max())
            assert not all(s > 1e-6 * np.abs(y).max() for s in spread)
            seen += 1
    assert seen > 1000


def test_the_cheap_filters_use_every_primitive_without_raising():
    for name, primitive in PRIMITIVES.items():
        inputs = ",".join(["x"] * primitive.arity)
        graph = graphs.parse(f"n13={name}({inputs})")
        filters.structural(graph, ALL)
        filters.numeric(graph, ALL)
