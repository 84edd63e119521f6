"""The layers: one row each.

A row is data: a name, a formula, where it comes from, the weights beyond
gamma and beta, and a `Kernel` that computes it. To add a layer, write its
kernel and register a row; every head, test table and benchmark then has it.

Formulas: var and mean are biased; epsilon stands inside every square root;
bhw, hw, c/g name the axes that a statistic is taken over. Each ends in
`* gamma + beta`.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from evonorm_tf.ops import (
    baselines,
    coefficients,
    evonorm_b,
    evonorm_s,
    general,
)
from evonorm_tf.ops.plan import Kernel

_PAPER = "Table 1, arXiv:2004.02967"


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One norm-act layer.

    Attributes:
      name: the string used everywhere: configs, results, flags.
      formula: ASCII, before the affine.
      reference: where the formula comes from.
      kernel: its computation.
      weights: trainable weights beyond gamma and beta, [C] each, with their
        initial values.
      grouped: whether it has channel groups.
      without_activation: the row that `activation=False` asks for; None if
        this row has no activation.
      min_rank: the least rank of an input it is defined for.
      spec: what a layer's config stores to find this row again; the name
        unless the row was not made by hand.
    """

    name: str
    formula: str
    reference: str
    kernel: Kernel
    weights: tuple[tuple[str, float], ...] = ()
    grouped: bool = False
    without_activation: "Row | None" = None
    min_rank: int = 2
    spec: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Kernels hold functions that do not pickle; the name finds them.
        return get, (spec(self),)


# -- the table ----------------------------------------------------------------

_MOVING_VARIANCE = (("moving_variance", 1.0),)
_MOVING_MOMENTS = (("moving_mean", 0.0), ("moving_variance", 1.0))
_V1 = (("v", 1.0),)

_AFFINE = Row(
    "affine",
    "x",
    "sites without an activation, the authors' code",
    Kernel(
        baselines.normalized(baselines.LINEAR),
        coefficients.normalized(coefficients.identity),
    ),
)


def _evonorm(name, formula, kernel, **fields) -> Row:
    return Row(
        name,
        formula,
        _PAPER,
        kernel,
        without_activation=_AFFINE,
        min_rank=fields.pop("min_rank", 4),
        **fields,
    )


def _b_kernel(pointwise, small) -> Kernel:
    return Kernel(pointwise, small, True, _MOVING_VARIANCE)


def _s_row(name, formula, second_moment, trainable) -> Row:
    small = coefficients.gated(second_moment, trainable)
    return _evonorm(
        name,
        formula,
        Kernel(evonorm_s.GATED, small, instance=True),
        weights=_V1 if trainable else (),
        grouped=True,
        min_rank=3,  # A group's statistic needs no map, only positions.
    )


_EVONORMS = (
    _evonorm(
        "evonorm_b0",
        "x / max(sqrt(var_bhw(x)), v*x + sqrt(var_hw(x)))",
        _b_kernel(evonorm_b.B0, coefficients.b0),
        weights=_V1,
    ),
    _evonorm(
        "evonorm_b1",
        "x / max(sqrt(var_bhw(x)), (x + 1) * sqrt(mean_hw(x^2)))",
        _b_kernel(evonorm_b.B1, coefficients.b1_b2),
    ),
    _evonorm(
        "evonorm_b2",
        "x / max(sqrt(var_bhw(x)), sqrt(mean_hw(x^2)) - x)",
        _b_kernel(evonorm_b.B2, coefficients.b1_b2),
    ),
    _s_row("evonorm_s0", "x*sigmoid(v*x) / sqrt(var_hw,c/g(x))", False, True),
    _s_row("evonorm_s1", "x*sigmoid(x) / sqrt(var_hw,c/g(x))", False, False),
    _s_row("evonorm_s2", "x*sigmoid(x) / sqrt(mean_hw,c/g(x^2))", True, False),
)

_ACTIVATIONS = {
    "relu": (baselines.RELU, "max(z, 0)", ()),
    "silu": (baselines.SILU, "z*sigmoid(z)", ()),
    "swish": (baselines.SWISH, "z*sigmoid(v*z)", _V1),
    "tlu": (baselines.TLU, "max(z, v)", (("v", 0.0),)),
    None: (baselines.LINEAR, "z", ()),
}


def _baseline(
    name: str, normal: tuple[str, str, Any, dict], activation: str | None
) -> Row:
    """One pair; `normal` is (formula of z, reference, statistic, fields)."""
    z, reference, statistic, fields = normal
    act, formula, weights = _ACTIVATIONS[activation]
    fields = dict(fields)
    batch = fields.pop("statistics", ())
    return Row(
        name,
        f"{formula}, z = {z}",
        reference,
        Kernel(
            baselines.normalized(act),
            coefficients.normalized(statistic),
            instance=not batch,
            statistics=batch,
        ),
        weights=weights,
        without_activation=None
        if activation is None
        else _baseline(name.split("_")[0], normal, None),
        **fields,
    )


_BN = (
    "(x - mean_bhw(x)) / sqrt(var_bhw(x)) * gamma + beta",
    "arXiv:1502.03167",
    coefficients.batch,
    {"statistics": _MOVING_MOMENTS},
)
_GN = (
    "(x - mean_hw,c/g(x)) / sqrt(var_hw,c/g(x)) * gamma + beta",
    "arXiv:1803.08494",
    coefficients.group,
    {"grouped": True},
)
_LN = (
    "(x - mean_hwc(x)) / sqrt(var_hwc(x)) * gamma + beta",
    "arXiv:1607.06450",
    coefficients.layer,
    {},
)
_FRN = (
    "x / sqrt(mean_hw(x^2)) * gamma + beta",
    "arXiv:1911.09737",
    coefficients.filter_response,
    {"min_rank": 3},
)
_PN = "z = x / sqrt(mean_c(x^2)) * gamma + beta"
_ABLATION = "search ablation, arXiv:2004.02967"

_BASELINES = (
    _baseline("bn_relu", _BN, "relu"),
    _baseline("bn_silu", _BN, "silu"),
    _baseline("bn_swish", _BN, "swish"),
    _baseline("gn_relu", _GN, "relu"),
    _baseline("gn_silu", _GN, "silu"),
    _baseline("gn_swish", _GN, "swish"),
    _baseline("ln_relu", _LN, "relu"),
    Row(
        "pn_relu",
        f"max(z, 0), {_PN}",
        "arXiv:1710.10196",
        Kernel(apply=general.pn_relu),
        without_activation=Row(
            "pn", _PN, "arXiv:1710.10196", Kernel(apply=general.pn)
        ),
    ),
    _baseline("frn", _FRN, "tlu"),
)

_FOUND = (
    Row(
        "random",
        "sign(z)*sqrt(z), z = sqrt(var_hw(sigmoid(abs(x))))",
        _ABLATION,
        Kernel(apply=general.random),
        without_activation=_AFFINE,
    ),
    Row(
        "random_rej",
        "tanh(max(x, tanh(x)))",
        _ABLATION,
        Kernel(apply=general.random_rej),
        without_activation=_AFFINE,
    ),
    Row(
        "rs_rej",
        "max(x, 0) / sqrt(mean_bhw(x^2))",
        _ABLATION,
        Kernel(apply=general.rs_rej, statistics=(("moving_mean_square", 1.0),)),
        without_activation=_AFFINE,
    ),
)

_ROWS = {row.name: row for row in _EVONORMS + _BASELINES + _FOUND}


def names() -> list[str]:
    """The names of all rows, EvoNorms first."""
    return list(_ROWS)


def register(row: Row) -> Row:
    """Adds a row under its name; raises ValueError if that is taken."""
    if row.name in _ROWS:
        raise ValueError(
            "A layer of that name is in the catalog already; choose another. "
            f"Received: name={row.name!r}"
        )
    _ROWS[row.name] = row
    return row


def spec(row: Row) -> Any:
    """What a config stores of a row, for `get` to find it again.

    Raises:
      ValueError: for a row that `get` would not find.
    """
    if row.spec is not None:
        return row.spec
    if _ROWS.get(row.name) is not row:
        raise ValueError(
            "A layer whose row is not in the catalog cannot be stored; call "
            "evonorm_tf.catalog.register(row) first, also where it is loaded. "
            f"Received: row={row.name!r}"
        )
    return row.name


def get(name_or_row: "str | Mapping[str, Any] | Row") -> Row:
    """The row of that name; a `Row` is returned as it is.

    A name that ends in .json is the path of a graph, a mapping is one.

    Raises:
      ValueError: for an unknown name, with the nearest ones, or no graph.
      TypeError: for anything else.
    """
    if isinstance(name_or_row, Row):
        return name_or_row
    if isinstance(name_or_row, Mapping) or str(name_or_row).endswith(".json"):
        from evonorm_tf import graphs  # It imports this module.

        return graphs.resolve(name_or_row)
    if not isinstance(name_or_row, str):
        raise TypeError(
            "A layer is named by a string or given as a catalog Row. "
            f"Received: {name_or_row!r} of type {type(name_or_row).__name__}"
        )
    if name_or_row not in _ROWS:
        near = difflib.get_close_matches(name_or_row, _ROWS, 3, 0.4)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(
            f"Unknown norm-act layer. {hint}Expected one of {names()}. "
            f"Received: {name_or_row!r}"
        )
    return _ROWS[name_or_row]
