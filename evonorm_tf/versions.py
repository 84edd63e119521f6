"""Which versions of other packages this one is tested with.

The one definition: setup.py executes this file, which therefore imports
nothing of the package; importing the layers checks the minimum of Keras by
it, the doctor compares a machine with it, and `make test-versions` tests its
corners.
"""

import dataclasses
import re


def release(version: str) -> tuple[int, ...]:
    """A version's leading numbers: (2, 20, 1) for "2.20.1.dev3"."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers.group().split("."))) if numbers else ()


@dataclasses.dataclass(frozen=True)
class Range:
    """Versions from `first` on ("" for any), and before `end`."""

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
# The heads (classification, detection, gan) run with the Model Garden, which
# fixes TensorFlow's version, and with what its modules still work with.
GARDEN_PYTHON = Range("3.11", "3.14")
GARDEN = {
    "tensorflow": (Range("2.20", "2.21"), "The Model Garden 2.20 pins it."),
    "tf_keras": (Range("2.20", "2.21"), "The Model Garden 2.20 pins it."),
    "numpy": (
        Range("", "2.4"),
        "Some of the Model Garden's modules call reshape(newshape=...), which "
        "2.4 no longer has.",
    ),
    "pillow": (
        Range("", "13"),
        "The Model Garden writes masks in a way that 13 refuses.",
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


def missing(user: str, error: ModuleNotFoundError) -> ImportError:
    """The error of a module that needs a package that is not installed.

    Args:
      user: the module.
      error: of importing the package.
    """
    package = (error.name or str(error)).split(".")[0]
    return ImportError(
        f"{user} needs {package}, which is not installed. How to fix it: "
        f"pip install {package}"
    )


def check_minimum(name: str, version: str) -> None:
    """Refuses a version older than all tested ones.

    Args:
      name: of a package in `TESTED`.
      version: the installed version.

    Raises:
      ImportError: it is too old.
    """
    least = TESTED[name].first
    if release(version) < release(least):
        raise ImportError(
            f"evonorm_tf needs {name} {least} or newer. "
            f"Received: {name} {version}. How to fix it: "
            f"pip install --upgrade '{name}>={least}'"
        )
