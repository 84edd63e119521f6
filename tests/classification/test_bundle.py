"""A run for a machine without TensorFlow: what it is fed and what it counts."""

import numpy as np
import pytest
import tensorflow as tf

from classification import bundle
from classification import task as _registers  # noqa: F401
from training import config


def _digits(**override):
    changes = {"task": {"train_data": {"global_batch_size": 16} | override}}
    params = config.parse(
        "digits_resnet", norm_act="evonorm_s0", params_override=changes
    )
    params.trainer.train_steps = 3
    params.task.model.width = 0.5
    return params


def test_bundle_evaluates_what_counts():
    """Sums over the examples that count, of the model as it stands."""
    run, data = bundle.run_of(_digits())
    images = data["test_images"][: run.evaluate.batch]
    labels = data["test_labels"][: run.evaluate.batch]
    counts = np.zeros(run.evaluate.batch, np.float32)
    both = []
    for part in (slice(0, 100), slice(100, None)):
        counts[:], counts[part] = 0, 1
        both.append(run.evaluate.function(images, labels, counts))
    whole = run.evaluate.function(images, labels, np.ones_like(counts))
    np.testing.assert_allclose(np.sum(both, axis=0), whole, rtol=1e-5)
    # Ten classes, an untrained network: about log 10 an example.
    assert float(whole[1]) / run.evaluate.batch == pytest.approx(2.3, abs=0.3)


def test_bundle_augments_by_step():
    """The same images at another step are cropped otherwise."""
    run, data = bundle.run_of(_digits())
    images = tf.constant(data["train_images"][:16])
    labels = tf.constant(data["train_labels"][:16])
    function = tf.function(run.train.function)
    # The rate is 0 at step 0 of the warm-up, so that weights stay.
    first = float(function(tf.constant(7, tf.int64), images, labels))
    other = float(function(tf.constant(8, tf.int64), images, labels))
    assert abs(first - other) > 1e-6


@pytest.mark.parametrize(
    "override", [{"dataset": "jpeg_digits"}, {"mixup_alpha": 0.2}]
)
def test_bundle_refuses_what_it_cannot_hold(override):
    with pytest.raises(ValueError, match="in memory"):
        bundle.run_of(_digits(**override))


def test_weight_average_is_refused():
    params = _digits()
    params.trainer.optimizer_config.override({"ema": {}})
    with pytest.raises(ValueError, match="ema=null"):
        bundle.run_of(params)


def test_names_tell_networks_and_searched_layers_apart():
    run, _ = bundle.run_of(_digits())
    assert run.name == "resnet8_cifar-evonorm_s0-b16-seed0"
