"""Four CPU devices; nothing is collected under another backend.

Every row runs eagerly, and its gradients compiled. Compiled values, other
layouts and meshes run once per kind of kernel: the rest is slow.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import pytest

_FOLDER = pathlib.Path(__file__).parent
_OF_EACH_KIND = ("test_plain_mesh",)

if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "")
        + " --xla_force_host_platform_device_count=4"
    )
    os.environ["JAX_PLATFORMS"] = "cpu"
else:
    collect_ignore_glob = ["test_*.py"]


def _repeats(name: str, parameters: Mapping[str, Any]) -> bool:
    """Whether other tests with the same kind of kernel cover these."""
    from tests import cases

    case = parameters.get("case")
    if case is None or case in cases.KINDS:
        return False
    shape = parameters.get("shape", cases.SHAPE)
    other = parameters.get("axis") == 1 or shape != cases.SHAPE
    return other or parameters.get("jit", False) or name in _OF_EACH_KIND


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    from tests import cases

    cases.mark_repeats(items, _FOLDER, _repeats)
