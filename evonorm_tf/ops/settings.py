"""How the ops compute: four settings, in one place.

`reduction`, how a sum over space is written
    "blocks"  the space is cut into up to 8 blocks that are added element by
              element, then the remaining pixels are summed: on a CPU, XLA
              compiles this to one vectorized read, whatever is summed, and
              the sum is pairwise at the top;
    "sum"     a plain reduction: what GPU and TPU compilers fuse best, and the
              only form to trace on one machine for another;
    "auto"    "sum" where the backend sees a GPU or a TPU, "blocks" elsewhere.

`moments`, how mean and variance of every (sample, channel) are taken
    "merged"    exact moments of each block, merged (Chan et al., 1983): one
                read of x with the accuracy of two passes;
    "two_pass"  the mean, then the mean of squared differences;
    "one_pass"  the mean and the mean of squares in one float32 read, as
                BatchNorm does on accelerators; loses accuracy with
                (mean / std)^2;
    "auto"      "one_pass" where the backend sees a GPU or a TPU, "merged"
                elsewhere.

`xla`, whether TensorFlow compiles the training computation of a layer
    "auto"    the setting of each layer decides;
    False     nothing is compiled by this library.

`recompute`, what JAX saves for the backward pass of a layer
    True      the input and the moments of every (sample, channel), [N, C];
              everything else is computed again;
    False     what `jax.jit` chooses.

Measured accuracy and speed: docs/design.md.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

CHOICES = {
    "reduction": ("auto", "blocks", "sum"),
    "moments": ("auto", "merged", "two_pass", "one_pass"),
    "xla": ("auto", False),
    "recompute": (False, True),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The values in force; hashable, to key compiled functions."""

    reduction: str = "auto"
    moments: str = "auto"
    xla: str | bool = "auto"
    recompute: bool = False

    def resolved(self, accelerated: bool) -> "Settings":
        """With every "auto" of the arithmetic decided.

        Args:
          accelerated: whether the computation is for a GPU or TPU.
        """
        reduction, moments = self.reduction, self.moments
        if reduction == "auto":
            reduction = "sum" if accelerated else "blocks"
        if moments == "auto":
            moments = "one_pass" if accelerated else "merged"
        return dataclasses.replace(self, reduction=reduction, moments=moments)

    def plain(self) -> "Settings":
        """The form of inference: few, ordinary operations, good to export."""
        one_pass = self.moments == "one_pass"
        return Settings("sum", "one_pass" if one_pass else "two_pass", False)


_current = Settings()


def get() -> Settings:
    """The settings as they were set, with "auto" left as it is."""
    return _current


def check(name: str, value: str | bool) -> None:
    """Raises ValueError for an unknown setting or value."""
    if name not in CHOICES:
        raise ValueError(
            f"Unknown setting. Expected one of {sorted(CHOICES)}. "
            f"Received: {name}={value!r}"
        )
    if not any(value is c or value == c for c in CHOICES[name]):
        raise ValueError(
            f"`{name}` must be one of {CHOICES[name]}. "
            f"Received: {name}={value!r}"
        )


def configure(**values: str | bool) -> Settings:
    """Sets `reduction`, `moments`, `xla` or `recompute` for the process.

    Args:
      **values: new values by name; the others stay as they are.

    Returns:
      The settings that were in force before.

    Raises:
      ValueError: for an unknown setting or value.
    """
    global _current
    for name, value in values.items():
        check(name, value)
    before = _current
    _current = dataclasses.replace(_current, **values)
    return before


@contextlib.contextmanager
def using(**values: str | bool) -> Iterator[Settings]:
    """`configure` for the duration of a `with` block."""
    before = configure(**values)
    try:
        yield _current
    finally:
        configure(**dataclasses.asdict(before))
