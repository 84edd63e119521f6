"""Reports what is installed, what does not work, and how to fix it.

    python -m evonorm_tf.doctor

Prints versions, devices and known conflicts between packages, for the backend
of KERAS_BACKEND or Keras's configuration file. The exit status is 1 if there
is a conflict and otherwise 0.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

from evonorm_tf.versions import (
    GARDEN,
    GARDEN_PYTHON,
    PYTHON,
    TESTED,
    Range,
    release,
)

# These install into the same folder, site-packages/tensorflow.
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu")
_MODEL_GARDEN = "tf-models-official"
PACKAGES = tuple(
    dict.fromkeys(
        [
            *(*_TENSORFLOWS, *TESTED, _MODEL_GARDEN, *GARDEN),
            "tensorflow-datasets",
            "tensorboard",
            "keras-cv",
            "absl-py",
            "jax",
            "jaxlib",
            "libtpu",
            "ray",
        ]
    )
)
VARIABLES = (
    "TF_USE_LEGACY_KERAS",
    "KERAS_BACKEND",
    "TPU_NAME",
    "TF_CONFIG",
    "CUDA_VISIBLE_DEVICES",
)
# What prints the kinds of all devices that a backend sees.
_PROBES = {
    "tensorflow": """
import tensorflow as tf
kinds = [d.device_type for d in tf.config.list_physical_devices()]
""",
    "jax": """
import jax
kinds = [d.platform.upper() for d in jax.devices()]
""",
}
_PROBE_END = """
import json
print("DOCTOR" + json.dumps({k: kinds.count(k) for k in set(kinds)}))
"""
_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX"}
_PROBE_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Machine:
    """An installation to examine.

    Attributes:
      python: its version.
      versions: the installed versions of `PACKAGES`, by name.
      environment: the environment variables.
      devices: number of devices of each kind that the backend sees; empty if
        it is broken.
      failure: the last line printed by a backend that cannot be imported.
      configured: the backend in Keras's configuration file, "" if none.
    """

    python: str
    versions: Mapping[str, str]
    environment: Mapping[str, str]
    devices: Mapping[str, int]
    failure: str = ""
    configured: str = ""

    @property
    def backend(self) -> str:
        """Returns the backend that Keras would use."""
        chosen = self.environment.get("KERAS_BACKEND") or self.configured
        return chosen or "tensorflow"


@dataclasses.dataclass(frozen=True)
class Conflict:
    """What is wrong, why it matters, and how to fix it."""

    what: str
    why: str
    fix: str


def look() -> Machine:
    """Inspects this machine; takes as long as importing the backend."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    python = ".".join(map(str, sys.version_info[:3]))
    machine = Machine(
        python, versions, dict(os.environ), {}, configured=_configured()
    )
    devices, failure = _probe(machine.backend)
    return dataclasses.replace(machine, devices=devices, failure=failure)


def _configured() -> str:
    """Returns the backend in Keras's configuration file; or ""."""
    folder = os.environ.get("KERAS_HOME")
    if folder is None:
        home = os.path.expanduser("~")
        # As in Keras.
        home = home if os.access(home, os.W_OK) else "/tmp"
        folder = os.path.join(home, ".keras")
    path = os.path.expanduser(os.path.join(folder, "keras.json"))
    try:
        with open(path, encoding="utf-8") as file:
            return str(json.load(file).get("backend", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _probe(backend: str) -> tuple[dict[str, int], str]:
    """Returns the devices that a backend sees, or how it failed.

    Runs in a separate process, because a broken TensorFlow may abort it.
    """
    if backend not in _PROBES:
        return {}, ""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBES[backend] + _PROBE_END],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {_PROBE_SECONDS} s"
    answer = re.search(r"^DOCTOR(.*)$", done.stdout, re.M)
    if answer:
        return json.loads(answer.group(1)), ""
    last = done.stderr.strip().splitlines()[-1:] or [""]
    return {}, f"exit status {done.returncode}: {last[0]}"


def examine(machine: Machine) -> list[Conflict]:
    """Returns all conflicts, in the order in which to resolve them."""
    return [*_ranges(machine), *_combinations(machine), *_settings(machine)]


def _ranges(machine: Machine) -> Iterator[Conflict]:
    """Finds versions outside the tested ranges."""
    garden = _MODEL_GARDEN in machine.versions
    python = GARDEN_PYTHON if garden else PYTHON
    if machine.python not in python:
        yield Conflict(
            f"Python {machine.python}",
            "Not tested" + (" with the Model Garden." if garden else "."),
            f"Use an environment with Python{python}.",
        )
    limits = {name: (range_, "Not tested.") for name, range_ in TESTED.items()}
    for name, (range_, why) in (limits | (GARDEN if garden else {})).items():
        same = _TENSORFLOWS if name == "tensorflow" else (name,)
        for package in same:
            yield from _range(machine, package, range_, why)


def _range(
    machine: Machine, package: str, range_: Range, why: str
) -> Iterator[Conflict]:
    version = machine.versions.get(package)
    if version is not None and version not in range_:
        fix = f"pip install '{package}{range_}'"
        yield Conflict(f"{package} {version}", why, fix)


def _combinations(machine: Machine) -> Iterator[Conflict]:
    """Finds packages that are incompatible, or that need a missing one."""
    versions = machine.versions
    found = [name for name in _TENSORFLOWS if name in versions]
    backend = machine.backend
    needed = "jax" if backend == "jax" else "tensorflow"
    same = _TENSORFLOWS if needed == "tensorflow" else (needed,)
    package = next((name for name in same if name in versions), None)
    if package is None:
        fix = f"pip install 'evonorm-tf[{needed}]'"
        if needed == "tensorflow" and "jax" in versions:
            fix += ", or set KERAS_BACKEND=jax"
        yield Conflict(
            f"no {needed}",
            f"The layers compute with it (Keras's backend is {backend}).",
            fix,
        )
    kerases = ("keras",) if needed == "jax" else ("keras", "tf_keras")
    if not any(name in versions for name in kerases):
        yield Conflict(
            "no keras",
            "The layers are those of Keras 3"
            + (", or of tf_keras." if needed == "tensorflow" else "."),
            f"pip install 'keras{TESTED['keras']}'",
        )
    if len(found) > 1:
        yield Conflict(
            " beside ".join(found),
            "They overwrite each other's files, so the import is a mixture.",
            f"pip uninstall -y {' '.join(found)}, then install the one you "
            "want.",
        )
    if found and "tf_keras" in versions:
        minor = release(versions[found[0]])[:2]
        if release(versions["tf_keras"])[:2] != minor:
            yield Conflict(
                f"tf_keras {versions['tf_keras']} with {found[0]} "
                f"{versions[found[0]]}",
                "Each tf_keras works with the TensorFlow of the same version; "
                "a newer tf_keras installs a newer TensorFlow.",
                f"pip install 'tf_keras=={'.'.join(map(str, minor))}.*'",
            )
    if "libtpu" in versions and "jax" not in versions:
        yield Conflict(
            "libtpu without jax",
            "Preflight calls the TPU's compiler through jax.",
            "pip install 'evonorm-tf[tpu]'",
        )
    if package and machine.failure:
        yield Conflict(
            f"{_NAMES[needed]} cannot be imported",
            machine.failure,
            "Resolve the conflicts above first. If there are none: pip "
            f"install --force-reinstall {package}=={versions[package]}",
        )


def _settings(machine: Machine) -> Iterator[Conflict]:
    """Finds environment variables with which the layers do not work."""
    legacy = machine.environment.get("TF_USE_LEGACY_KERAS", "")
    if legacy in ("1", "True", "true"):
        yield Conflict(
            f"TF_USE_LEGACY_KERAS={legacy}",
            "It makes tf.keras an alias of tf_keras, whose tensors the layers "
            "of evonorm_tf.layers (Keras 3) reject.",
            "Use the layers of evonorm_tf.legacy, or unset "
            "TF_USE_LEGACY_KERAS.",
        )
    backend = machine.backend
    if backend not in _NAMES:
        named = machine.environment.get("KERAS_BACKEND")
        yield Conflict(
            f"KERAS_BACKEND={backend}"
            if named
            else f"backend {backend} in keras.json",
            "The layers compute with TensorFlow or JAX.",
            "export KERAS_BACKEND=tensorflow, or jax",
        )


def report(machine: Machine, conflicts: list[Conflict]) -> str:
    """Returns versions, devices and conflicts as text."""
    lines = [f"{'python':24s}{machine.python}"]
    lines += [
        f"{name:24s}{machine.versions.get(name, '-')}" for name in PACKAGES
    ]
    lines += [
        f"{name:24s}{machine.environment[name]}"
        for name in VARIABLES
        if name in machine.environment
    ]
    seen = [
        f"{count} {kind}" for kind, count in sorted(machine.devices.items())
    ]
    backend = machine.backend
    name = _NAMES.get(backend, backend)
    lines += ["", f"{name} sees: {', '.join(seen) or 'nothing'}"]
    for one in conflicts:
        lines += ["", f"CONFLICT: {one.what}", f"  {one.why}"]
        lines += [f"  How to fix it: {one.fix}"]
    if not conflicts:
        lines += ["", "No known conflict."]
    return "\n".join(lines)


def main(given: list[str] | None = None) -> int:
    """Prints the report; returns 1 if there is a conflict."""
    argparse.ArgumentParser(
        prog="python -m evonorm_tf.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(given)
    machine = look()
    conflicts = examine(machine)
    print(report(machine, conflicts))
    return int(bool(conflicts))


if __name__ == "__main__":
    sys.exit(main())
