"""The known conflicts, and the way out of each."""

import dataclasses
from collections.abc import Callable

from evonorm_tf.doctor.machine import Machine

# They write into one folder, site-packages/tensorflow.
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A conflict.

    Attributes:
      what: is wrong.
      why: it matters.
      way_out: what to do.
    """

    what: str
    why: str
    way_out: str


def _python(machine: Machine) -> Finding | None:
    if machine.python == (3, 11):
        return None
    found = ".".join(map(str, machine.python))
    return Finding(
        f"Python {found}",
        "Only 3.11 is tested; the Model Garden needs modules that 3.13 lacks.",
        "Make the environment with python3.11.",
    )


def _one_tensorflow(machine: Machine) -> Finding | None:
    found = [name for name in _TENSORFLOWS if machine.has(name)]
    if len(found) == 1:
        return None
    if not found:
        return Finding(
            "no TensorFlow",
            "All else stands on it.",
            "pip install 'tensorflow>=2.20,<2.21'",
        )
    return Finding(
        " beside ".join(found),
        "They overwrite each other's files: what is imported is a mixture.",
        f"pip uninstall -y {' '.join(found)}, then install the one you want.",
    )


def _tensorflow_version(machine: Machine) -> Finding | None:
    found = [n for n in _TENSORFLOWS if machine.has(n)]
    if not found or machine.release(found[0])[:2] == (2, 20):
        return None
    return Finding(
        f"{found[0]} {machine.versions[found[0]]}",
        "Only 2.20 is tested, and the Model Garden of setup.py wants it.",
        f"pip install '{found[0]}>=2.20,<2.21'",
    )


def _imports(machine: Machine) -> Finding | None:
    if not machine.failure:
        return None
    return Finding(
        "TensorFlow cannot be imported",
        machine.failure,
        "Solve the conflicts above first. Where there are none: pip install "
        "--force-reinstall -c constraints.txt tensorflow",
    )


def _legacy_keras(machine: Machine) -> Finding | None:
    found = [n for n in _TENSORFLOWS if machine.has(n)]
    if not found or not machine.has("tf_keras"):
        return None
    expected = machine.release(found[0])[:2]
    if machine.release("tf_keras")[:2] == expected:
        return None
    minor = ".".join(map(str, expected))
    return Finding(
        f"tf_keras {machine.versions['tf_keras']} with {found[0]} "
        f"{machine.versions[found[0]]}",
        "Each tf_keras fits the TensorFlow of its own number, and a newer one "
        "brings a newer TensorFlow along.",
        f"pip install 'tf_keras=={minor}.*'",
    )


def _legacy_switch(machine: Machine) -> Finding | None:
    value = machine.environment.get("TF_USE_LEGACY_KERAS", "")
    if value not in ("1", "True", "true"):
        return None
    return Finding(
        f"TF_USE_LEGACY_KERAS={value}",
        "tf.keras is tf_keras then, and layers of evonorm_tf.layers are Keras "
        "3's: they refuse its tensors.",
        "Take the layers of evonorm_tf.legacy, or unset TF_USE_LEGACY_KERAS.",
    )


def _backend(machine: Machine) -> Finding | None:
    value = machine.environment.get("KERAS_BACKEND", "tensorflow")
    if value == "tensorflow":
        return None
    return Finding(
        f"KERAS_BACKEND={value}",
        "These layers are made of TensorFlow operations.",
        "export KERAS_BACKEND=tensorflow",
    )


def _below(
    name: str, limit: tuple[int, ...], why: str
) -> Callable[[Machine], Finding | None]:
    """A check that a package, where it is, is older than a version."""

    def check(machine: Machine) -> Finding | None:
        if not machine.has(name) or machine.release(name) < limit:
            return None
        version = ".".join(map(str, limit))
        return Finding(
            f"{name} {machine.versions[name]}",
            why,
            f"pip install '{name}<{version}'",
        )

    return check


def _compiler(machine: Machine) -> Finding | None:
    if machine.has("libtpu") and not machine.has("jax"):
        return Finding(
            "libtpu without jax",
            "--preflight reaches the TPU's compiler through jax.",
            "pip install '.[tpu]'",
        )
    return None


CHECKS: tuple[Callable[[Machine], Finding | None], ...] = (
    _python,
    _one_tensorflow,
    _tensorflow_version,
    _legacy_keras,
    _legacy_switch,
    _backend,
    _below(
        "setuptools",
        (81,),
        "TensorBoard and TensorFlow Hub import pkg_resources, which setuptools "
        "is about to drop or has dropped.",
    ),
    _below(
        "numpy",
        (2, 4),
        "Some of the Model Garden's modules call reshape(newshape=...), which "
        "2.4 no longer has.",
    ),
    _below(
        "pillow",
        (13,),
        "The Model Garden writes masks in a way that 13 refuses.",
    ),
    _below("protobuf", (7,), "Not tested with TensorFlow 2.20."),
    _compiler,
    _imports,
)


def examine(machine: Machine) -> list[Finding]:
    """All conflicts of a machine, in the order to solve them."""
    return [found for check in CHECKS if (found := check(machine))]
