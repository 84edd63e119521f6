"""The versions of other packages that this package is tested with.

This is the only definition of these versions. setup.py executes this file, so
it must not import the package. Importing the layers checks the minimum version
of Keras, the doctor compares an installation with it, and
`make test-versions` tests the oldest and newest versions.
"""

import dataclasses
import re


def release(version: str) -> tuple[int, ...]:
    """Returns a version's leading numbers: (2, 20, 1) for "2.20.1.dev3"."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers.group().split("."))) if numbers else ()


@dataclasses.dataclass(frozen=True)
class Range:
    """Versions from `first` (inclusive, "" for any) to `end` (exclusive)."""

    first: str
    end: str

    def __contains__(self, version: str) -> bool:
        return release(self.first) <= release(version) < release(self.end)

    def __str__(self) -> str:
        return (f">={self.first}," if self.first else "") + f"<{self.end}"


PYTHON = Range("3.10", "3.14")
TESTED = {
    "tensorflow": Range("2.16", "2.22"),
    "keras": Range("3.7", "3.16"),
    "tf_keras": Range("2.16", "2.22"),
}
# The first TensorFlow that lowers a function to StableHLO.
STABLEHLO = "2.19"
# The heads (classification, detection, gan) need the Model Garden, which
# requires one version of TensorFlow and limits those of other packages.
GARDEN_PYTHON = Range("3.11", "3.14")
GARDEN = {
    "tensorflow": (Range("2.20", "2.21"), "The Model Garden 2.20 pins it."),
    "tf_keras": (Range("2.20", "2.21"), "The Model Garden 2.20 pins it."),
    "numpy": (
        Range("", "2.4"),
        "Some of the Model Garden's modules call reshape(newshape=...), which "
        "2.4 removed.",
    ),
    "pillow": (
        Range("", "13"),
        "The way the Model Garden writes masks is not supported by 13.",
    ),
    "opencv-python-headless": (
        Range("", "5"),
        "The Model Garden is not tested with it.",
    ),
    "protobuf": (Range("", "7"), "TensorFlow 2.20 is not tested with it."),
    "setuptools": (
        Range("", "81"),
        "TensorBoard and TensorFlow Hub import pkg_resources, which setuptools "
        "has deprecated and will remove.",
    ),
}


def missing(
    user: str, error: ModuleNotFoundError, extra: str = ""
) -> ModuleNotFoundError:
    """Returns the error for a module that needs a missing package.

    Args:
      user: the module.
      error: the error from importing the package.
      extra: the extra of evonorm-tf that installs the package, if there is one.
    """
    package = (error.name or str(error)).split(".")[0]
    source = f"'evonorm-tf[{extra}]'" if extra else package
    return ModuleNotFoundError(
        f"{user} needs {package}, which is not installed. How to fix it: "
        f"pip install {source}",
        name=error.name,
    )


def check_minimum(
    name: str, version: str, least: str = "", user: str = "evonorm_tf"
) -> None:
    """Rejects a version that is too old.

    Args:
      name: a package.
      version: the installed version.
      least: the first version that works; "" for that of `TESTED`.
      user: what needs it.

    Raises:
      ImportError: if it is too old.
    """
    least = least or TESTED[name].first
    if release(version) < release(least):
        raise ImportError(
            f"{user} needs {name} {least} or newer. "
            f"Received: {name} {version}. How to fix it: "
            f"pip install --upgrade '{name}>={least}'"
        )
