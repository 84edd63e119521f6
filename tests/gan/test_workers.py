"""Two processes train and measure a GAN as two replicas of one do."""

import numpy as np
import pytest
import tensorflow as tf

from tests import running
from training import runs

_MODULE = "tests.gan.small"


def _weights(folder):
    reader = tf.train.load_checkpoint(str(folder))
    names = reader.get_variable_to_shape_map()
    kept = ("generator/", "average/", "discriminator/")
    return {k: reader.get_tensor(k) for k in names if k.startswith(kept)}


@pytest.mark.slow
def test_two_workers(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    running.finish(running.start(_MODULE, str(one), "2", "2"), seconds=500)
    # In two parts: the second resumes, on both, and measures.
    running.two_workers(_MODULE, str(two), "1", "0", seconds=500)
    said = running.two_workers(_MODULE, str(two), "2", "0", seconds=500)
    assert all("Resuming from step 1 of 2" in text for text in said)
    weights = _weights(one)
    found = _weights(two)
    assert found.keys() == weights.keys() and len(found) > 20
    for name, value in found.items():  # Float32 sums in another order.
        np.testing.assert_allclose(
            value, weights[name], rtol=1e-3, atol=1e-4, err_msg=name
        )
    # Each measures its share; every image counts once, and in its place.
    running.require_same_end(said, 2)
    lines = [runs.Run(str(folder)).metrics("eval") for folder in (one, two)]
    first, last = (found[-1] for found in lines)
    assert first.keys() == last.keys()
    for name, value in first.items():
        if name.startswith("classifier"):
            assert last[name] == pytest.approx(value, rel=2e-2, abs=1e-3)
    names = {path.name for path in (two / "samples").iterdir()}
    assert names == {
        f"{kind}-000000{step}.png"
        for kind in ("step", "truncation", "interpolation")
        for step in (0, 1, 2)
    }
