"""A training step as StableHLO, from any framework."""

import dataclasses
import hashlib
import math

import ml_dtypes  # noqa: F401, teaches NumPy bfloat16 and float8
import numpy as np


@dataclasses.dataclass(frozen=True)
class Value:
    """A parameter or result.

    Attributes:
      name: name of the variable or argument.
      shape: [...], static.
      dtype: NumPy's name of the dtype ("bfloat16" included).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Returns the size without padding."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Module:
    """A step as StableHLO, with its parameters and results.

    Attributes:
      text: the module, without source locations.
      inputs: the batch, which comes first in the parameters.
      state: weights, statistics and the optimizer's variables, which follow.
      outputs: what the step returns, which comes first in the results.
      updates: for each further result, the index of the state it updates.
    """

    text: str
    inputs: tuple[Value, ...]
    state: tuple[Value, ...]
    outputs: tuple[Value, ...]
    updates: tuple[int, ...]

    @property
    def key(self) -> str:
        """Returns a hash of the program, equal for equal programs."""
        return hashlib.sha256(self.text.encode()).hexdigest()
