"""What a machine has installed, and what TensorFlow sees on it."""

import dataclasses
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping

PACKAGES = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-tpu",
    "keras",
    "tf_keras",
    "tf-models-official",
    "tensorflow-datasets",
    "tensorboard",
    "keras-cv",
    "numpy",
    "pillow",
    "protobuf",
    "absl-py",
    "setuptools",
    "jax",
    "jaxlib",
    "libtpu",
    "ray",
)
_PROBE = """
import json, tensorflow as tf
kinds = [d.device_type for d in tf.config.list_physical_devices()]
print("DOCTOR" + json.dumps({k: kinds.count(k) for k in set(kinds)}))
"""
_PROBE_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the checks look at.

    Attributes:
      python: major and minor version.
      versions: of the installed packages of `PACKAGES`, by name.
      environment: the variables of the environment.
      devices: how many of each kind TensorFlow sees; none if it is broken.
      failure: the last words of a TensorFlow that cannot be imported.
    """

    python: tuple[int, int]
    versions: Mapping[str, str]
    environment: Mapping[str, str]
    devices: Mapping[str, int]
    failure: str = ""

    def has(self, name: str) -> bool:
        """Whether a package is installed."""
        return name in self.versions

    def release(self, name: str) -> tuple[int, ...]:
        """A package's version as numbers, (2, 20, 1); empty if not there."""
        return tuple(map(int, re.findall(r"\d+", self.versions.get(name, ""))))


def look() -> Machine:
    """The machine this runs on; takes as long as importing TensorFlow."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    devices, failure = _probe()
    return Machine(
        sys.version_info[:2], versions, dict(os.environ), devices, failure
    )


def _probe() -> tuple[dict[str, int], str]:
    """The devices that a fresh process sees, or how it failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
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
