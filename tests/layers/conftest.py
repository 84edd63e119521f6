"""Layers are tested on small inputs, compiled as large ones are."""

import pytest

from evonorm_tf.ops import settings


@pytest.fixture(autouse=True)
def _compiled():
    with settings.using(xla_elements=0):
        yield
