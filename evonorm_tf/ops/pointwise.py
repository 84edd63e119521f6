"""What a family of layers must say about its pointwise step.

A family is y = f(x; coefficients): element by element in x, with a few small
tensors that are constant over space. Each family writes its derivatives by
hand, in four plain functions; `gradient.py` does everything else.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

Tensor = tf.Tensor


class Pointwise(NamedTuple):
    """Four functions of full-size tensors and expanded coefficients.

    x and dy are [N, s, C] (or [N, C, s]) in the compute dtype; the
    coefficients are [N, 1, C] (or [N, C, 1]).

    Attributes:
      forward: (x, *coefficients) -> y.
      terms: (x, dy, *coefficients) -> full-size terms; the backward pass
        needs their sums over space and no others.
      finish: (sums, *coefficients) -> gradient of every coefficient, from
        the summed terms (same small shapes).
      slope: (x, dy, *coefficients) -> dy * df/dx, coefficients held.
    """

    forward: Callable[..., Tensor]
    terms: Callable[..., Sequence[Tensor]]
    finish: Callable[..., Sequence[Tensor]]
    slope: Callable[..., Tensor]
