"""A training step in StableHLO, whichever framework it comes from."""

import dataclasses
import hashlib
import math

import ml_dtypes  # noqa: F401, teaches NumPy bfloat16 and float8
import numpy as np


@dataclasses.dataclass(frozen=True)
class Value:
    """A parameter or result.

    Attributes:
      name: a variable's name, or what the function calls it.
      shape: [...], all known.
      dtype: as NumPy spells it ("bfloat16" included).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Size without padding."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Module:
    """A step in StableHLO, and what its parameters and results are.

    Attributes:
      text: the module, without source locations.
      inputs: the batch, the first parameters.
      state: weights, statistics and the optimizer's variables, the
        parameters after them.
      outputs: what the step returns, the first results.
      updates: for each result after those, the index of the state it renews.
    """

    text: str
    inputs: tuple[Value, ...]
    state: tuple[Value, ...]
    outputs: tuple[Value, ...]
    updates: tuple[int, ...]

    @property
    def key(self) -> str:
        """A hash of the program, equal for equal programs."""
        return hashlib.sha256(self.text.encode()).hexdigest()
