"""How the ops compute: three settings, in one place.

`reduction`, how a sum over space is written
    "blocks"  the space is cut into up to 8 blocks that are added element by
              element, then the remaining rows are summed: on a CPU, XLA makes
              one vectorised read of it, whatever is summed, and the sum is
              pairwise at the top;
    "sum"     a plain reduction: what GPU and TPU compilers fuse best, and the
              only form to trace on one machine for another;
    "ones"    a product with a row of ones: on an accelerator it would run in
              reduced precision;
    "auto"    "sum" where TensorFlow sees a GPU or a TPU, "blocks" elsewhere.

`moments`, how mean and variance of every (sample, channel) are taken
    "merged"    exact moments of each block, merged (Chan et al., 1983): one
                read of x with the accuracy of two passes;
    "two_pass"  the mean, then the mean of squared differences;
    "one_pass"  the mean and the mean of squares in one float32 read, as
                BatchNorm does on accelerators; loses accuracy with
                (mean / std)^2;
    "auto"      "one_pass" where TensorFlow sees a GPU or a TPU, "merged"
                elsewhere.

`xla`, whether training computations are compiled
    "auto"    each layer's own setting decides;
    False     nothing is compiled by this library.

Measured accuracy and speed: docs/design.md.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import tensorflow as tf

CHOICES = {
    "reduction": ("auto", "blocks", "sum", "ones"),
    "moments": ("auto", "merged", "two_pass", "one_pass"),
    "xla": ("auto", False),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The values in force; hashable, so that it can key compiled functions."""

    reduction: str = "auto"
    moments: str = "auto"
    xla: str | bool = "auto"


_current = Settings()


@functools.cache
def _accelerated() -> bool:
    return bool(
        tf.config.list_physical_devices("GPU")
        or tf.config.list_physical_devices("TPU")
    )


def _has_accelerator() -> bool:
    # A TPU reached over the network is no physical device, and appears when
    # the program connects to it: that part is asked anew each time.
    strategy = type(tf.distribute.get_strategy()).__name__
    return _accelerated() or strategy.startswith("TPU")


def get() -> Settings:
    """Returns the settings as they were set, with "auto" left as it is."""
    return _current


def resolved() -> Settings:
    """Returns the settings with every "auto" of the arithmetic decided."""
    reduction, moments = _current.reduction, _current.moments
    if reduction == "auto":
        reduction = "sum" if _has_accelerator() else "blocks"
    if moments == "auto":
        moments = "one_pass" if _has_accelerator() else "merged"
    return Settings(reduction, moments, _current.xla)


def plain(form: Settings) -> Settings:
    """The form of inference: few, ordinary operations, good to export."""
    one_pass = form.moments == "one_pass"
    return Settings("sum", "one_pass" if one_pass else "two_pass", False)


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
    """Sets `reduction`, `moments` or `xla` for the whole process.

    Args:
      **values: new values by name; what is not named stays.

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
    """`configure` for the length of a `with` block."""
    before = configure(**values)
    try:
        yield _current
    finally:
        configure(**dataclasses.asdict(before))
