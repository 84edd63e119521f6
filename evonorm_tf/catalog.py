"""The catalog of layers: one entry per layer.

A `Row` is data: a name, a formula, its source, the weights besides gamma and
beta, the kernel that computes it and its folded form. To add a layer, write its
kernel and add or `register` a row; all heads, benchmarks and figures then
include it.

In formulas, var and mean are biased, epsilon is added inside every square root,
and bhw, hw, c/g name the axes of a statistic. A formula without gamma and beta
is followed by `* gamma + beta`.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from evonorm_tf.errors import did_you_mean
from evonorm_tf.ops import baselines, dynamic, evonorm_b, evonorm_s, general
from evonorm_tf.ops.activations import (
    LINEAR,
    RELU,
    SILU,
    SWISH,
    TLU,
    Activation,
)
from evonorm_tf.ops.folding import Folded
from evonorm_tf.ops.kernel import Analytic, General


class Weight(NamedTuple):
    """A trainable weight besides gamma and beta.

    Attributes:
      name: name of the layer's attribute.
      initial: its initial value.
      scalar: whether it is one number per layer, instead of one per channel,
        [C].
    """

    name: str
    initial: float
    scalar: bool = False


class Style(NamedTuple):
    """How figures draw a layer.

    Attributes:
      colour: "#rrggbb".
      marker: one of Matplotlib's filled markers or a tuple (sides, style,
        angle).
    """

    colour: str
    marker: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One norm-act layer.

    Attributes:
      name: the name used everywhere: configs, results, flags.
      formula: in ASCII.
      reference: source of the formula.
      kernel: its computation.
      weights: trainable weights besides gamma and beta.
      grouped: whether it has channel groups.
      without_activation: the row to use where no activation follows; None for
        this row itself.
      min_rank: minimum rank of the input: 2 for [N, C], 3 for [N, S, C], 4
        for images.
      folded: how it folds at inference; None if it does not.
      style: how figures draw it, like no other row; None for a default.
      spec: what the config of a layer stores to find this row again; None for
        the name.
    """

    name: str
    formula: str
    reference: str
    kernel: Analytic | General
    weights: tuple[Weight, ...] = ()
    grouped: bool = False
    without_activation: "Row | None" = None
    min_rank: int = 2
    folded: Folded | None = None
    style: Style | None = None
    spec: Any = None

    def __post_init__(self):
        if not isinstance(self.kernel, Analytic | General):
            raise TypeError(
                "A row needs a kernel, an ops.kernel.Analytic or General. "
                f"Received: name={self.name!r}, kernel={self.kernel!r}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        # Kernels contain functions that cannot be pickled; the name suffices.
        return get, (spec(self),)


V = Weight("v", 1.0)
_TABLE_1 = "Table 1, arXiv:2004.02967"
ABLATION = "search ablation, arXiv:2004.02967"

AFFINE = Row(
    name="affine",
    formula="x",
    reference="sites without an activation, the authors' code",
    kernel=baselines.AFFINE,
    folded=baselines.FOLDED_AFFINE,
)

# -- EvoNorms -----------------------------------------------------------------

_EVONORMS = (
    Row(
        name="evonorm_b0",
        formula="x / max(sqrt(var_bhw(x)), v*x + sqrt(var_hw(x)))",
        reference=_TABLE_1,
        kernel=evonorm_b.B0,
        weights=(V,),
        without_activation=AFFINE,
        min_rank=4,
        folded=evonorm_b.FOLDED_B0,
        style=Style("#0072b2", "^"),
    ),
    Row(
        name="evonorm_b1",
        formula="x / max(sqrt(var_bhw(x)), (x + 1) * sqrt(mean_hw(x^2)))",
        reference=_TABLE_1,
        kernel=evonorm_b.B1,
        without_activation=AFFINE,
        min_rank=4,
        folded=evonorm_b.FOLDED_B1,
        style=Style("#003a5c", "h"),
    ),
    Row(
        name="evonorm_b2",
        formula="x / max(sqrt(var_bhw(x)), sqrt(mean_hw(x^2)) - x)",
        reference=_TABLE_1,
        kernel=evonorm_b.B2,
        without_activation=AFFINE,
        min_rank=4,
        folded=evonorm_b.FOLDED_B2,
        style=Style("#56b4e9", "8"),
    ),
    Row(
        name="evonorm_s0",
        formula="x*sigmoid(v*x) / sqrt(var_hw,c/g(x))",
        reference=_TABLE_1,
        kernel=evonorm_s.S0_S1,
        weights=(V,),
        grouped=True,
        without_activation=AFFINE,
        min_rank=3,
        folded=evonorm_s.FOLDED_S0_S1,
        style=Style("#009e73", "P"),
    ),
    Row(
        name="evonorm_s1",
        formula="x*sigmoid(x) / sqrt(var_hw,c/g(x))",
        reference=_TABLE_1,
        kernel=evonorm_s.S0_S1,
        grouped=True,
        without_activation=AFFINE,
        min_rank=3,
        folded=evonorm_s.FOLDED_S0_S1,
        style=Style("#00523c", "X"),
    ),
    Row(
        name="evonorm_s2",
        formula="x*sigmoid(x) / sqrt(mean_hw,c/g(x^2))",
        reference=_TABLE_1,
        kernel=evonorm_s.S2,
        grouped=True,
        without_activation=AFFINE,
        min_rank=3,
        folded=evonorm_s.FOLDED_S2,
        style=Style("#5fcfae", "*"),
    ),
)

# -- a normalization with an activation ----------------------------------------


class Normalization(NamedTuple):
    """A normalization that can be combined with any activation.

    Attributes:
      formula, reference, grouped, min_rank: see `Row`.
      kernel: maps an activation to the kernel of the pair.
      folded: maps an activation to the folded form of the pair.
    """

    formula: str
    reference: str
    kernel: Callable[[Activation], Analytic | General]
    folded: Callable[[Activation], Folded]
    grouped: bool = False
    min_rank: int = 2

    def row(
        self,
        name: str,
        act: Activation = LINEAR,
        without_activation: Row | None = None,
        style: Style | None = None,
    ) -> Row:
        """Returns the entry of this normalization with an activation."""
        formula = f"{act.formula}, z = {self.formula} * gamma + beta"
        return Row(
            name=name,
            formula=self.formula if act is LINEAR else formula,
            reference=self.reference,
            kernel=self.kernel(act),
            weights=()
            if act.initial_v is None
            else (Weight("v", act.initial_v),),
            grouped=self.grouped,
            without_activation=without_activation,
            min_rank=self.min_rank,
            folded=self.folded(act),
            style=style,
        )


_BATCH_NORM = Normalization(
    formula="(x - mean_bhw(x)) / sqrt(var_bhw(x))",
    reference="arXiv:1502.03167",
    kernel=baselines.batch_norm,
    folded=baselines.folded_batch_norm,
)
_GROUP_NORM = Normalization(
    formula="(x - mean_hw,c/g(x)) / sqrt(var_hw,c/g(x))",
    reference="arXiv:1803.08494",
    kernel=baselines.group_norm,
    folded=baselines.folded_group_norm,
    grouped=True,
)
_LAYER_NORM = Normalization(  # GroupNorm with the one group of all channels.
    formula="(x - mean_hwc(x)) / sqrt(var_hwc(x))",
    reference="arXiv:1607.06450",
    kernel=baselines.group_norm,
    folded=baselines.folded_group_norm,
)
_PIXEL_NORM = Normalization(
    formula="x / sqrt(mean_c(x^2))",
    reference="arXiv:1710.10196",
    kernel=general.pixel_norm,
    folded=general.folded_pixel_norm,
)
_FILTER_RESPONSE_NORM = Normalization(
    formula="x / sqrt(mean_hw(x^2))",
    reference="arXiv:1911.09737",
    kernel=baselines.filter_response_norm,
    folded=baselines.folded_filter_response_norm,
    min_rank=3,
)
# Without an activation.
_BN, _GN, _LN = (
    _BATCH_NORM.row("bn"),
    _GROUP_NORM.row("gn"),
    _LAYER_NORM.row("ln"),
)
_PN, _FRN = _PIXEL_NORM.row("pn"), _FILTER_RESPONSE_NORM.row("frn_without_tlu")

_BASELINES = (
    _BATCH_NORM.row("bn_relu", RELU, _BN, Style("#7f7f7f", "o")),
    _BATCH_NORM.row("bn_silu", SILU, _BN, Style("#333333", "p")),
    _BATCH_NORM.row("bn_swish", SWISH, _BN, Style("#b3b3b3", "H")),
    _GROUP_NORM.row("gn_relu", RELU, _GN, Style("#d55e00", "s")),
    _GROUP_NORM.row("gn_silu", SILU, _GN, Style("#8a3d00", "<")),
    _GROUP_NORM.row("gn_swish", SWISH, _GN, Style("#e69f00", "D")),
    _LAYER_NORM.row("ln_relu", RELU, _LN, Style("#8c7500", ">")),
    _PIXEL_NORM.row("pn_relu", RELU, _PN, Style("#c9b400", "d")),
    _FILTER_RESPONSE_NORM.row("frn", TLU, _FRN, Style("#cc79a7", "v")),
    Row(
        name="dyt",
        formula="tanh(alpha*x)",
        reference="arXiv:2503.10622",
        kernel=dynamic.DYT,
        weights=(Weight("alpha", 0.5, scalar=True),),
        folded=dynamic.FOLDED_DYT,
        style=Style("#a50f15", (5, 1, 0)),
    ),
    Row(
        name="derf",
        formula="erf(alpha*x + s)",
        reference="arXiv:2512.10938",
        kernel=dynamic.DERF,
        weights=(
            Weight("alpha", 0.5, scalar=True),
            Weight("s", 0.0, scalar=True),
        ),
        folded=dynamic.FOLDED_DERF,
        style=Style("#fb6a4a", (8, 1, 0)),
    ),
)

_ABLATIONS = (
    Row(
        name="random",
        formula="sign(z)*sqrt(z), z = sqrt(var_hw(sigmoid(abs(x))))",
        reference=ABLATION,
        kernel=general.RANDOM,
        without_activation=AFFINE,
        style=Style("#6a3d9a", (4, 1, 0)),
    ),
    Row(
        name="random_rej",
        formula="tanh(max(x, tanh(x)))",
        reference=ABLATION,
        kernel=general.RANDOM_REJ,
        without_activation=AFFINE,
        style=Style("#a88bc9", (6, 1, 0)),
    ),
    Row(
        name="rs_rej",
        formula="max(x, 0) / sqrt(mean_bhw(x^2))",
        reference=ABLATION,
        kernel=general.RS_REJ,
        without_activation=AFFINE,
        style=Style("#432966", (3, 0, 180)),
    ),
)

_rows: dict[str, Row] = {}
# The forms without an activation, such as "affine" and "bn", so that they can
# be stored too.
_unlisted: dict[str, Row] = {}
_resolvers: list[tuple[Callable[[Any], bool], Callable[[Any], Row]]] = []


def names() -> list[str]:
    """Returns the names of all layers, EvoNorms first.

    Those without an activation, such as "affine" and "bn", are not listed.
    """
    return list(_rows)


def register(row: Row) -> Row:
    """Adds a layer to the catalog under its name.

    Args:
      row: the entry.

    Raises:
      ValueError: if the name is taken.
    """
    if row.name in _rows or _unlisted.get(row.name, row) is not row:
        raise ValueError(
            "The catalog already has a layer of that name; choose another. "
            f"Received: name={row.name!r}"
        )
    _rows[row.name] = row
    plain = row.without_activation
    if plain is not None and plain.spec is None and plain.name not in _rows:
        _unlisted.setdefault(plain.name, plain)
    return row


for _row in _EVONORMS + _BASELINES + _ABLATIONS:
    register(_row)


def register_resolver(
    recognizes: Callable[[Any], bool], resolve: Callable[[Any], Row]
) -> None:
    """Lets `get` find layers outside the catalog by their spec.

    Args:
      recognizes: returns whether a spec is for this resolver.
      resolve: returns the row of a spec.
    """
    _resolvers.append((recognizes, resolve))


def spec(row: Row) -> Any:
    """Returns what a config stores for a row, so that `get` finds it again.

    Raises:
      ValueError: if `get` would not find the row.
    """
    if row.spec is not None:
        return copy.deepcopy(row.spec)  # A config may be changed.
    if (_rows | _unlisted).get(row.name) is not row:
        raise ValueError(
            "A layer whose row is not in the catalog cannot be stored; call "
            "evonorm_tf.catalog.register(row) first, also before loading. "
            f"Received: row={row.name!r}"
        )
    return row.name


def get(name_or_row: "str | Mapping[str, Any] | Row") -> Row:
    """Returns the entry with a name; a `Row` is returned unchanged.

    A mapping is a graph (`evonorm_tf.graphs`), and a name that ends in .json is
    the path of a file with a graph.

    Args:
      name_or_row: a name, a mapping or a `Row`.

    Raises:
      ValueError: if the name is unknown (the message suggests similar ones),
        or the graph is invalid.
      TypeError: if it is anything else.
    """
    if isinstance(name_or_row, Row):
        return name_or_row
    for recognizes, resolve in _resolvers:
        if recognizes(name_or_row):
            return resolve(name_or_row)
    if not isinstance(name_or_row, str):
        raise TypeError(
            "A layer must be a name or a catalog Row. "
            f"Received: {name_or_row!r} of type {type(name_or_row).__name__}"
        )
    found = (_rows | _unlisted).get(name_or_row)
    if found is None:
        raise ValueError(
            f"Unknown norm-act layer. {did_you_mean(name_or_row, _rows)}"
            "evonorm_tf.names() lists them all. "
            f"Received: {name_or_row!r}"
        )
    return found
