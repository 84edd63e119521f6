"""How the ops compute: five settings.

`reduction`, how sums over space are computed
    "blocks"  cuts the space into up to 8 blocks that are added element by
              element, then sums the remaining pixels. On a CPU, XLA compiles
              this to one vectorized read, whatever is summed, and the sum is
              pairwise at the top;
    "sum"     a plain reduction: what GPU and TPU compilers fuse best, and the
              only form for tracing on one machine for another;
    "auto"    "blocks" in what is compiled for a CPU, "sum" elsewhere.

`moments`, how mean and variance of every (sample, channel) are computed
    "merged"    exact moments of each block, merged (Chan et al., 1983): one
                read of x with the accuracy of two passes;
    "two_pass"  the mean, then the mean of squared differences;
    "one_pass"  the mean and the mean of squares in one float32 read, as
                BatchNorm does on accelerators; loses accuracy with
                (mean / std)^2;
    "auto"      "one_pass" if the backend sees a GPU or a TPU, "merged" in
                what is compiled for a CPU, "two_pass" elsewhere.

`xla`, whether TensorFlow compiles the training computation of a layer
    "auto"    the setting of each layer decides;
    False     this library compiles nothing.

`xla_elements`, the minimum number of elements of an input, N * H * W * C, for
which TensorFlow compiles; starting a compiled function costs more than a small
input takes
    "auto"    100,000 on a CPU, 0 if TensorFlow sees a GPU or a TPU;
    n         that number, at least 0.

`recompute`, what JAX saves for the backward pass of a layer
    True      the input and the moments of every (sample, channel), [N, C];
              everything else is computed again;
    False     what `jax.jit` chooses.

Measured accuracy and speed: docs/design.md.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

CHOICES = {
    "reduction": ("auto", "blocks", "sum"),
    "moments": ("auto", "merged", "two_pass", "one_pass"),
    "xla": ("auto", False),
    "xla_elements": ("auto",),
    "recompute": (False, True),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The current values; hashable, as a key of compiled functions."""

    reduction: str = "auto"
    moments: str = "auto"
    xla: str | bool = "auto"
    xla_elements: str | int = "auto"
    recompute: bool = False

    def resolved(self, accelerated: bool, compiled: bool = True) -> "Settings":
        """Returns the settings with every "auto" of the arithmetic resolved.

        Args:
          accelerated: whether the computation is for a GPU or TPU.
          compiled: whether XLA compiles it.
        """
        reduction, moments = self.reduction, self.moments
        if reduction == "auto":
            blocks = compiled and not accelerated
            reduction = "blocks" if blocks else "sum"
        if moments == "auto":
            exact = "merged" if compiled else "two_pass"
            moments = "one_pass" if accelerated else exact
        return dataclasses.replace(self, reduction=reduction, moments=moments)

    def plain(self) -> "Settings":
        """Returns the settings of inference: few, ordinary operations."""
        one_pass = self.moments == "one_pass"
        return Settings("sum", "one_pass" if one_pass else "two_pass", False)


# The values of `configure`, then of the `using` blocks that have not ended, in
# any thread, the latest last; each with its thread.
_values: list[tuple[int | None, dict[str, str | bool | int]]] = [(None, {})]
_lock = threading.Lock()


def get() -> Settings:
    """Returns the current settings, with "auto" not resolved."""
    with _lock:
        return Settings(**{k: v for _, one in _values for k, v in one.items()})


def check(name: str, value: str | bool | int) -> None:
    """Raises ValueError if a setting or value is unknown."""
    if name not in CHOICES:
        raise ValueError(
            f"Unknown setting. Expected one of {sorted(CHOICES)}. "
            f"Received: {name}={value!r}"
        )
    known = any(type(value) is type(c) and value == c for c in CHOICES[name])
    expected = f"one of {CHOICES[name]}"
    if name == "xla_elements":
        known = known or (type(value) is int and value >= 0)
        expected = "'auto' or an integer that is at least 0"
    if not known:
        raise ValueError(
            f"`{name}` must be {expected}. Received: {name}={value!r}"
        )


def configure(**values: str | bool | int) -> Settings:
    """Sets any of the settings for the process.

    In a `using` block of the same thread, this lasts until its end.

    Example:
        ```python
        evonorm_tf.configure(xla=False)
        ```

    Args:
      **values: new values by name; the others are unchanged. The settings are
        `reduction`, `moments`, `xla`, `xla_elements` and `recompute`.

    Returns:
      The previous settings.

    Raises:
      ValueError: if a setting or value is unknown.
    """
    for name, value in values.items():
        check(name, value)
    before = get()
    owners = (None, threading.get_ident())
    with _lock:
        next(v for who, v in reversed(_values) if who in owners).update(values)
    return before


@contextlib.contextmanager
def using(**values: str | bool | int) -> Iterator[Settings]:
    """Applies `configure` for the duration of a `with` block.

    All threads see it. Blocks of several threads may overlap: the latest one
    takes precedence, and none leaves anything behind.
    """
    for name, value in values.items():
        check(name, value)
    entry = (threading.get_ident(), values)
    with _lock:
        _values.append(entry)
    try:
        yield get()
    finally:
        with _lock:
            _values[:] = [one for one in _values if one is not entry]
