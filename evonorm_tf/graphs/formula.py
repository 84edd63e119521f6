"""Formulas of graphs: ASCII as in the catalog, and LaTeX.

A value that is used more than once is named and written once:

    max(x / a, a), a = sqrt(var_hw(x))

signed_log(p) is sign(p)*log(abs(p)), and signed_sqrt(p) likewise; v is the
paper's v1. The guards of division, log and sqrt are omitted.
"""

import collections
from typing import NamedTuple

from evonorm_tf.graphs.graph import FIRST, OUTPUT, Graph, check
from evonorm_tf.graphs.primitives import PRIMITIVES

# Precedence of a piece of a formula.
_SUM, _PRODUCT, _SIGN, _ATOM = range(4)
_Piece = tuple[str, int]
_LETTERS = "abcdefghij"


class _Style(NamedTuple):
    """The syntax of formulas in one language.

    Attributes:
      initial: the initial nodes.
      elementwise: by operation, (format, minimum precedence of the inputs,
        own precedence).
      axes: names of the axes.
      statistic: by kind, a format with {axes} and {0}.
      comma: between the formula and the values it shares.
    """

    initial: tuple[str, ...]
    elementwise: dict[str, tuple[str, tuple[int, ...], int]]
    axes: dict[str, str]
    statistic: dict[str, str]
    parentheses: str
    comma: str


_CALL = (_SUM,)
_TEXT = _Style(
    ("x", "0", "v0", "v"),
    {
        "add": ("{0} + {1}", (_SUM, _SUM), _SUM),
        "mul": ("{0}*{1}", (_PRODUCT, _SIGN), _PRODUCT),
        "div": ("{0} / {1}", (_PRODUCT, _ATOM), _PRODUCT),
        "max": ("max({0}, {1})", (_SUM, _SUM), _ATOM),
        "neg": ("-{0}", (_ATOM,), _SIGN),
        "square": ("{0}^2", (_ATOM,), _SIGN),
        "log": ("signed_log({0})", _CALL, _ATOM),
        "sqrt": ("signed_sqrt({0})", _CALL, _ATOM),
        **{
            op: (op + "({0})", _CALL, _ATOM)
            for op in ("sigmoid", "tanh", "exp", "abs")
        },
    },
    {"bwh": "bhw", "whc": "hwc", "wh": "hw", "whg": "hw,c/g"},
    {
        "mean": "mean_{axes}({0})",
        "mean_square": "sqrt(mean_{axes}(({0})^2))",
        "variance": "sqrt(var_{axes}({0}))",
    },
    "({})",
    ", ",
)
_LATEX = _Style(
    ("x", "0", "v_0", "v_1"),
    {
        "add": ("{0} + {1}", (_SUM, _SUM), _SUM),
        "mul": (r"{0}\,{1}", (_PRODUCT, _ATOM), _PRODUCT),
        "div": (r"\frac{{{0}}}{{{1}}}", (_SUM, _SUM), _PRODUCT),
        "max": (r"\max({0}, {1})", (_SUM, _SUM), _ATOM),
        "neg": ("-{0}", (_ATOM,), _SIGN),
        "square": ("{0}^2", (_ATOM,), _SIGN),
        "sigmoid": (r"\sigma({0})", _CALL, _ATOM),
        "tanh": (r"\tanh({0})", _CALL, _ATOM),
        "exp": (r"\exp({0})", _CALL, _ATOM),
        "log": (r"\operatorname{{slog}}({0})", _CALL, _ATOM),
        "abs": (r"\left|{0}\right|", _CALL, _ATOM),
        "sqrt": (r"\operatorname{{ssqrt}}({0})", _CALL, _ATOM),
    },
    {"bwh": "b,h,w", "whc": "h,w,c", "wh": "h,w", "whg": "h,w,c/g"},
    {
        "mean": r"\mathrm{{E}}_{{{axes}}}[{0}]",
        "mean_square": r"\sqrt{{\mathrm{{E}}_{{{axes}}}[({0})^2]}}",
        "variance": r"\sqrt{{\mathrm{{Var}}_{{{axes}}}[{0}]}}",
    },
    r"\left({}\right)",
    r",\quad ",
)


def formula(graph: Graph) -> str:
    """Returns the ASCII formula, before the affine."""
    return _write(graph, _TEXT)


def latex(graph: Graph) -> str:
    """Returns the formula for LaTeX's math mode, before the affine."""
    return _write(graph, _LATEX)


def _write(graph: Graph, style: _Style) -> str:
    check(graph)
    live = graph.live()
    uses = collections.Counter(i for n in live for i in graph[n].inputs)
    pieces: dict[int, _Piece] = {
        i: (name, _ATOM) for i, name in enumerate(style.initial)
    }
    shared = []
    for number in live:
        pieces[number] = _piece(graph, number, pieces, style)
        if uses[number] > 1 and number >= FIRST:
            letter = _LETTERS[len(shared)]
            shared.append(f"{letter} = {pieces[number][0]}")
            pieces[number] = letter, _ATOM
    return style.comma.join([pieces[OUTPUT][0], *shared])


def _piece(
    graph: Graph, number: int, pieces: dict[int, _Piece], style: _Style
) -> _Piece:
    node = graph[number]
    primitive = PRIMITIVES[node.op]
    if primitive.statistic is not None:
        inner, hold = pieces[node.inputs[0]]
        whole = style.statistic[primitive.statistic]
        if hold == _ATOM:
            whole = whole.replace("({0})^2", "{0}^2")
        return whole.format(inner, axes=style.axes[primitive.axes]), _ATOM
    template, least, own = style.elementwise[node.op]
    inner = [
        text if hold >= wanted else style.parentheses.format(text)
        for (text, hold), wanted in zip(
            (pieces[i] for i in node.inputs), least, strict=True
        )
    ]
    # The operand of neg is one piece: a + -b is a - b.
    return template.format(*inner).replace("+ -", "- "), own
