"""The model and its loss: every layer a NormAct, decay where it belongs."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from classification import datasets, task
from evonorm_tf import legacy, names, nets
from evonorm_tf.nets import resnet
from tests.classification import images, small
from training import runs


def _model(norm_act):
    params = small.parameters(norm_act)
    prepared = task.prepare(params)
    return prepared, prepared.build_model()


def _norm_acts(model):
    return [x for x in model.layers if isinstance(x, legacy.NormAct)]


@pytest.mark.parametrize("name", ["bn_relu", "evonorm_b0", "evonorm_s0"])
def test_every_site_is_a_norm_act_and_no_batch_norm_is_left(name):
    prepared, model = _model(name)
    network = prepared.task_config.model
    size = nets.scaled(network.network, network.width, network.max_depth)
    assert len(_norm_acts(model)) == nets.sites(size) == 3
    others = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]
    assert not others


@pytest.mark.slow  # tests/nets/test_counts.py counts them with the layers.
def test_networks_have_the_sizes_of_the_literature():
    counts = {}
    for name in ("resnet18", "resnet50", "resnet20_cifar"):
        size = resnet.SIZES[name]
        images = tf_keras.layers.Input((64, 64, 3))
        x = resnet.resnet(
            images,
            tf_keras.layers,
            # As many weights as BN-ReLU trains: gamma and beta.
            tf_keras.layers.LayerNormalization,
            size,
        )
        x = tf_keras.layers.GlobalAveragePooling2D()(x)
        x = tf_keras.layers.Dense(10 if "cifar" in name else 1000)(x)
        counts[name] = tf_keras.Model(images, x).count_params()
    # ResNet-50 v2 as everywhere; ResNet-18 and -20 follow from the same rule
    # (pre-activation, 1x1 projections, a biased head, no other bias).
    assert counts == {
        "resnet18": 11_687_720,
        "resnet50": 25_549_352,
        "resnet20_cifar": 272_282,
    }


def test_decay_skips_what_norm_act_owns_whatever_it_is_called():
    _, model = _model("evonorm_b0")
    decayed = task.decayed_weights(model)
    owned = [w for layer in _norm_acts(model) for w in layer.weights]
    trained = [w for w in owned if w.trainable]
    assert len(trained) == 3 * 3  # gamma, beta and v
    assert not {id(w) for w in decayed} & {id(w) for w in owned}
    assert len(decayed) + len(trained) == len(model.trainable_weights)
    expected = 1e-4 * sum(float(tf.nn.l2_loss(w)) for w in decayed)
    np.testing.assert_allclose(float(model.losses[0]), expected, rtol=1e-6)
    for weight in owned:
        weight.assign(weight + 100.0)
    np.testing.assert_allclose(float(model.losses[0]), expected, rtol=1e-6)


def test_padding_counts_in_neither_loss_nor_metrics():
    prepared, _ = _model("bn_relu")
    logits = tf.constant([[4.0] + [0.0] * 9] * 3)
    labels = {
        "label": tf.constant([0, 1, 5]),
        "weight": tf.constant([1.0, 1.0, 0.0]),
    }
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels["label"], logits
    )
    loss = prepared.build_losses(labels, logits)
    np.testing.assert_allclose(loss, (each[0] + each[1]) / 2, rtol=1e-6)
    metrics = prepared.build_metrics(training=False)
    prepared.process_metrics(metrics, labels, logits)
    found = {metric.name: float(metric.result()) for metric in metrics}
    assert found["accuracy"] == 0.5
    np.testing.assert_allclose(found["cross_entropy"], loss, rtol=1e-6)


def test_biases_and_squeeze_and_excitation_are_decayed(monkeypatch):
    small.shorten(monkeypatch, "efficientnet_b0_cifar")
    params = small.parameters("evonorm_s0")
    params.task.model.network = "efficientnet_b0_cifar"
    params.task.model.max_depth = 1
    model = task.prepare(params).build_model()
    owned = [w for layer in _norm_acts(model) for w in layer.trainable_weights]
    decayed = task.decayed_weights(model)
    biases = [weight for weight in decayed if "bias" in weight.name]
    # The classifier's, and two convolutions' of each of the two blocks.
    assert len(biases) == 1 + 2 * 2
    assert len(decayed) == len(model.trainable_weights) - len(owned)


def test_smoothing_and_mixing_give_the_cross_entropy_of_those_labels():
    params = small.parameters("bn_relu")
    params.task.label_smoothing = 0.1
    prepared = task.Task(params.task)
    logits = np.random.normal(size=(2, 10)).astype(np.float32)
    log_share = logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def loss(labels):
        weight = tf.ones([2])
        return prepared.build_losses(labels | {"weight": weight}, logits)

    label = tf.constant([3, 4])
    mixed = np.zeros((2, 10), np.float32)
    mixed[[0, 0, 1, 1], [3, 7, 4, 0]] = [0.75, 0.25, 0.5, 0.5]
    for labels, target in (
        ({"label": label}, np.eye(10)[[3, 4]]),
        ({"label": label, "target": tf.constant(mixed)}, mixed),
    ):
        smoothed = 0.9 * target + 0.1 / 10
        expected = -(smoothed * log_share).sum(1).mean()
        np.testing.assert_allclose(loss(labels), expected, rtol=1e-5)
        # Without smoothing the same, by whichever path.
        prepared.task_config.label_smoothing = 0.0
        expected = -(target * log_share).sum(1).mean()
        np.testing.assert_allclose(loss(labels), expected, rtol=1e-5)
        prepared.task_config.label_smoothing = 0.1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dataset": "jpeg_digits"}, "the same dataset"),
        ({"mean": [0.25]}, r"the same mean: .*\[0.25\].*\[0.5\]"),
        ({"std": [0.5]}, "the same std"),
        ({"dataset": "jpeg_digits", "image_size": 16}, "the same image_size"),
    ],
)
def test_training_and_validation_that_do_not_belong_together(changes, message):
    params = small.parameters()
    params.task.train_data.override(changes)
    with pytest.raises(ValueError, match=message) as caught:
        task.prepare(params)
    assert "set both task.train_data and task.val" in str(caught.value)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": {"num_classes": 0}}, "at least 1. .*task.model.num_classes"),
        ({"model": {"dropout": 1.0}}, "below 1. .*task.model.dropout=1.0"),
        ({"model": {"dropout": -0.5}}, "task.model.dropout=-0.5"),
        ({"label_smoothing": 1.5}, "task.label_smoothing=1.5"),
        ({"weight_decay": -1.0}, "task.weight_decay=-1"),
        ({"validation_data": {"global_batch_size": 0}}, "global_batch_size=0"),
        ({"train_data": {"std": [0.0]}}, r"above 0.*std=\[0.0\]"),
        ({"train_data": {"mean": []}}, r"one per channel.*mean=\[\]"),
        (
            {"train_data": {"is_training": False}},
            "must be True.*task.train_data.is_training=False",
        ),
        (
            {"validation_data": {"is_training": True}},
            "must be False.*task.validation_data.is_training=True",
        ),
    ],
)
def test_invalid_settings_are_refused_before_data_are_opened(
    changes, message, monkeypatch
):
    params = small.parameters()
    params.task.override(changes)
    monkeypatch.setattr(datasets, "open_source", None)
    with pytest.raises(ValueError, match=message):
        task.prepare(params)


def test_there_is_one_mean_or_one_per_channel():
    params = small.parameters()
    for data in (params.task.train_data, params.task.validation_data):
        data.mean = [0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match=r"has 1\..*mean=\[0.1, 0.2, 0.3\]"):
        task.prepare(params)


def _folders(tmp_path, renamed):
    for split in ("train", "test"):
        images.write_folder(tmp_path / split)
    (tmp_path / "test" / "class_2").rename(tmp_path / "test" / renamed)
    params = small.parameters()
    for part in (params.task.train_data, params.task.validation_data):
        part.override({"dataset": "folder", "image_size": 16})
    params.task.train_data.path = f"{tmp_path}/{{split}}"
    params.task.model.num_classes = 3
    return params


def test_other_classes_are_refused(tmp_path):
    params = _folders(tmp_path, "class_3")
    with pytest.raises(ValueError, match="only one: class_2, class_3"):
        task.prepare(params)
    (tmp_path / "test" / "class_3").rename(tmp_path / "test" / "class_2")
    # Names of three classes, files of any size.
    assert task.prepare(params).resized
    assert not task.prepare(small.parameters()).resized


@pytest.mark.parametrize(
    "name",
    [
        "evonorm_b0",
        # Their runs are those of test_recipes.py and test_driver.py.
        pytest.param("bn_relu", marks=pytest.mark.slow),
        pytest.param("evonorm_s0", marks=pytest.mark.slow),
    ],
)
def test_two_steps_are_finite_and_move_every_weight(name, tmp_path):
    assert name in names()
    params = small.parameters(name, train_steps=2, steps_per_loop=1)
    # From step 0 on: the warm-up's first rate is 0 and moves nothing.
    params.task.schedule.warmup_epochs = 0.0
    result = small.run(tmp_path, params, "train_and_eval")
    assert result.step == 2
    assert 0 <= result.metrics["accuracy"] <= 1
    assert all(
        np.isfinite(line["training_loss"])
        for line in runs.Run(tmp_path).metrics()
        if line["kind"] == "train"
    )
    tf_keras.utils.set_random_seed(params.task.seed)
    start = task.prepare(small.parameters(name)).build_model()
    for old, new in zip(start.weights, result.model.weights, strict=True):
        assert np.isfinite(new).all()
        assert (old.numpy() != new.numpy()).any(), new.name
