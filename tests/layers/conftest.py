"""Layers are tested on small inputs, compiled as large ones are.

Every row runs with Keras 3 and uncompiled, but in tests of what kernels share,
which take one row per kernel (`_OF_KERNELS_ALONE`), or per kind of kernel where
its formula has no part in them (`_OF_KINDS_ALONE`). What rows share, the
wrapper of tf_keras and the compiled computation, runs once per kind of kernel,
and the two together; values and gradients run so once per kernel. The rest of
the cross is slow.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import pytest

from evonorm_tf.ops import settings
from tests import cases

_FOLDER = pathlib.Path(__file__).parent
_OF_EACH_KERNEL = ("test_images", "test_float64")
# These test what kernels share, so that one row per kernel is enough.
_OF_KERNELS_ALONE = (
    "test_bfloat16_at_7e4",
    "test_constant_input",
    "test_float16_far_beyond_its_range_squared",
    "test_float32_input_beyond_float16_under_a_narrow_policy",
    "test_second_order",
)
# These test sizes and replicas, in which a formula has no part.
_OF_KINDS_ALONE = (
    "test_a_step_under_a_strategy_for_every_row",
    "test_an_empty_batch_moves_nothing",
    "test_an_empty_replica_harms_nobody",
    "test_dynamic_sizes_in_a_function",
    "test_synchronised_halves_equal_the_whole",
    "test_unsynchronised_replicas_share_the_mean",
)


@pytest.fixture(autouse=True)
def _compiled():
    with settings.using(xla_elements=0):
        yield


def _repeats(name: str, parameters: Mapping[str, Any]) -> bool:
    """Whether other tests with the same kind of kernel cover these."""
    case = parameters.get("case")
    legacy = parameters.get("kit_name") == "tf_keras"
    compiled = parameters.get("xla") == "auto"
    if case is None:
        return False
    if name in _OF_KERNELS_ALONE and case not in cases.KERNELS:
        return True
    if name in _OF_KINDS_ALONE and case not in cases.KINDS:
        return True
    if case not in (cases.KERNELS if name in _OF_EACH_KERNEL else cases.KINDS):
        return legacy or compiled
    if legacy and not parameters.get("synchronized", True):
        return True
    crossed = {"kit_name", "xla"} <= set(parameters)
    return crossed and legacy != compiled


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    cases.mark_repeats(items, _FOLDER, _repeats)
