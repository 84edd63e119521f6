"""Known layers as graphs: for tests, reference lines and warm starts.

If the activation needs them, BatchNorm and GroupNorm have their scale and shift
inside the graph, as v1 and v0, in addition to the gamma and beta of the layer
outside. The 1 of B1 is exp(zero).
"""

from evonorm_tf.graphs.graph import Graph, parse

_TEXTS = {
    "bn_relu": (
        "n6=std_bwh(x); n7=mean_bwh(x); n8=neg(n7); n9=add(x,n8); "
        "n10=div(n9,n6); n11=mul(v1,n10); n12=add(v0,n11); n13=max(zero,n12)"
    ),
    "gn_relu": (
        "n6=std_whg(x); n7=mean_whg(x); n8=neg(n7); n9=add(x,n8); "
        "n10=div(n9,n6); n11=mul(v1,n10); n12=add(v0,n11); n13=max(zero,n12)"
    ),
    "gn_silu": (
        "n5=std_whg(x); n6=mean_whg(x); n7=neg(n6); n8=add(x,n7); "
        "n9=div(n8,n5); n10=mul(v1,n9); n11=add(v0,n10); n12=sigmoid(n11); "
        "n13=mul(n11,n12)"
    ),
    "evonorm_b0": (
        "n8=std_bwh(x); n9=std_wh(x); n10=mul(x,v1); n11=add(n9,n10); "
        "n12=max(n8,n11); n13=div(x,n12)"
    ),
    "evonorm_b1": (
        "n7=std_bwh(x); n8=rms_wh(x); n9=exp(zero); n10=add(x,n9); "
        "n11=mul(n8,n10); n12=max(n7,n11); n13=div(x,n12)"
    ),
    "evonorm_b2": (
        "n8=std_bwh(x); n9=neg(x); n10=rms_wh(x); n11=add(n9,n10); "
        "n12=max(n8,n11); n13=div(x,n12)"
    ),
    "evonorm_s0": (
        "n9=mul(x,v1); n10=std_whg(x); n11=sigmoid(n9); n12=mul(x,n11); "
        "n13=div(n12,n10)"
    ),
    "evonorm_s1": (
        "n10=sigmoid(x); n11=std_whg(x); n12=mul(x,n10); n13=div(n12,n11)"
    ),
    "evonorm_s2": (
        "n10=sigmoid(x); n11=rms_whg(x); n12=mul(x,n10); n13=div(n12,n11)"
    ),
}

NAMED: dict[str, Graph] = {name: parse(text) for name, text in _TEXTS.items()}
