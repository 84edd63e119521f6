"""A classifier's weights in a detector's backbone."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import yaml

from detection import model, settings, task, transfer
from evonorm_tf import legacy, nets
from tests.detection import small
from training import accumulation, config

# A run of a classifier's row, with what the tables need of it.
_RUNS = pathlib.Path(__file__).parents[2] / "docs/runs/cifar10-small-batch"
_RECORDED = _RUNS / "evonorm_s0/b4/seed0"
_RECIPE = "cifar10/resnet20-b4"
_SIZE = {"network": "resnet18", "width": 0.25, "max_depth": 1}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier's run and the model of its features."""
    folder = tmp_path_factory.mktemp("classifier")
    return folder, _classifier(folder)


def _classifier(folder):
    """A run as `classification.train` leaves it; returns its features."""
    norm_act = config.NormAct(name="evonorm_b0", groups=8)
    images = tf_keras.layers.Input([32, 32, 3])
    features = nets.backbone(
        _SIZE["network"],
        images,
        tf_keras.layers,
        norm_act.bind(legacy),
        width=_SIZE["width"],
        max_depth=_SIZE["max_depth"],
    )
    logits = nets.classifier(features, tf_keras.layers, 7, 0.1)
    built = tf_keras.Model(images, logits)
    for weight in built.weights:  # Statistics too: trained, not initial.
        seed = [len(weight.shape), int(tf.size(weight))]
        values = tf.random.stateless_uniform(weight.shape, seed, 0.5, 1.5)
        weight.assign(values)
    tf.train.Checkpoint(
        model=built, global_step=tf.Variable(3, dtype=tf.int64)
    ).save(str(folder / "ckpt"))
    _configure(folder)
    return tf_keras.Model(images, features)


def _configure(folder, ema=None, pixels=None):
    """Its config."""
    about = _SIZE | {"num_classes": 7, "dropout": 0.1}
    about["norm_act"] = config.NormAct(name="evonorm_b0", groups=8).as_dict()
    trainer = {"optimizer_config": {"ema": ema}}
    data = pixels or {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    text = yaml.safe_dump(
        {"task": {"model": about, "train_data": data}, "trainer": trainer}
    )
    (folder / "params.yaml").write_text(text)


def _params(**changes):
    params = settings.Model(
        input_size=[32, 32, 3], max_level=5, fpn_filters=8, num_classes=3
    )
    head = {"num_filters": 8, "num_convs": 1}
    config.override(
        params,
        {
            **_SIZE,
            "norm_act": {"name": "evonorm_b0", "groups": 8},
            "rpn_head": head,
            "detection_head": head | {"fc_dims": 8},
            "mask_head": head,
        }
        | changes,
    )
    return params


@pytest.fixture(scope="module")
def built():
    """A detector with the classifier's backbone."""
    return model.build(_params())


def test_the_backbone_computes_what_the_classifier_did(classifier, built):
    run, features = classifier
    before = {id(w): w.numpy() for w in built.weights}
    done = transfer.backbone(built, _params(), str(run))
    images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 1])
    # Both with moving statistics, which must have come along.
    ours = built.backbone(images, training=False)["5"]
    theirs = features(images, training=False)
    # The same weights and operations.
    np.testing.assert_array_equal(ours, theirs)
    # Everything but the norms that lead from the finer levels to the pyramid.
    inside = {id(w): w.name for w in built.backbone.weights}
    taken = [w.name for w in built.weights if w.name in done.taken]
    assert len(done.taken) == len(taken) == len(features.weights)
    assert set(done.taken) | set(done.left) == {w.name for w in built.weights}
    left = [name for name in inside.values() if name in done.left]
    finer = {"2", "3", "4"}
    norms = [
        w.name
        for level in finer
        for w in built.backbone.output[level]._keras_history[0].weights
    ]
    assert sorted(left) == sorted(norms)
    for weight in built.weights:
        if weight.name in done.left:
            np.testing.assert_array_equal(weight, before[id(weight)])
    said = str(done)
    assert f"{len(done.taken)} weights" in said
    assert f"initialized: {len(done.left)} weights" in said


def test_an_average_starts_at_the_loaded_backbone(classifier, built):
    params = small.parameters()
    params.task.model = _params()
    params.task.init_checkpoint = str(classifier[0])
    params.task.init_checkpoint_modules = "backbone"
    ema = {"average_decay": 0.9, "trainable_weights_only": False}
    config.override(params, {"trainer": {"optimizer_config": {"ema": ema}}})
    detector = task.Task(params.task)
    for weight in built.backbone.weights:
        weight.assign(tf.zeros_like(weight))
    before = [weight.numpy() for weight in built.backbone.weights]
    optimizer = detector.create_optimizer(params.trainer.optimizer_config)
    options = {"train": False, "evaluate": False}
    accumulation.Trainer(
        params, detector, built, optimizer, **options
    ).initialize()
    for weight in built.weights:
        average = optimizer.get_slot(weight, "average")
        np.testing.assert_array_equal(average, weight, weight.name)
    kept = map(np.array_equal, before, built.backbone.weights)
    assert not all(kept), "nothing was loaded"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"norm_act": {"name": "gn_relu", "groups": 8}},
            r"norm_act\.name='gn_relu' \(the classifier's: 'evonorm_b0'\)",
        ),
        (
            {"norm_act": {"name": "evonorm_b0", "groups": 4}},
            r"norm_act\.groups=4 \(the classifier's: 8\)",
        ),
        ({"network": "resnet50"}, "network='resnet50'.*'resnet18'"),
        ({"width": 0.5}, r"width=0\.5"),
    ],
)
def test_another_network_or_layer_is_refused_by_name(
    changes, message, classifier
):
    with pytest.raises(ValueError, match=message):
        transfer.backbone(None, _params(**changes), str(classifier[0]))


def test_what_is_no_classifier_is_refused(classifier, tmp_path):
    with pytest.raises(ValueError, match="no run of classification"):
        transfer.backbone(None, _params(), str(tmp_path))
    shutil.copytree(classifier[0], tmp_path, dirs_exist_ok=True)
    _configure(tmp_path, ema={"average_decay": 0.9})
    with pytest.raises(ValueError, match=r"name '.*best' instead"):
        transfer.backbone(None, _params(), str(tmp_path))


def test_a_classifier_of_images_normalized_another_way_is_refused(
    classifier, tmp_path
):
    shutil.copytree(classifier[0], tmp_path, dirs_exist_ok=True)
    _configure(tmp_path, pixels={"mean": [0.5], "std": [0.25]})
    with pytest.raises(ValueError, match=r"another way.*'mean': \[0\.5\]"):
        transfer.backbone(None, _params(), str(tmp_path))


def _of_a_row(run):
    """The recorded run, which says what row it is of."""
    shutil.copytree(_RECORDED, run)
    facts = json.loads((run / "run.json").read_text())
    rows = [f"{_RECIPE}/evonorm_s0"]
    (run / "run.json").write_text(json.dumps(facts | {"rows": rows}))
    return run


def test_the_recipe_of_a_classifier_is_that_of_its_finished_row(tmp_path):
    run = _of_a_row(tmp_path / "run")
    assert transfer.recipes(str(run)) == [_RECIPE]
    # A best/ is of the run that it is in; runs below it are not it.
    shutil.copytree(_RECORDED, run / "deeper")
    assert transfer.recipes(str(run / "best")) == [_RECIPE]
    assert transfer.recipes(str(run / "deeper")) == [], "of no row, it says"
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:2]))
    assert transfer.recipes(str(run)) == [], "unfinished"
    (run / "metrics.jsonl").unlink()
    assert transfer.recipes(str(run)) == []


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where the runs below find their scenes."""
    return tmp_path_factory.mktemp("run")


def _found(directory, asked, classifier):
    params = small.parameters()
    params.task.init_checkpoint = str(classifier)
    params.task.init_checkpoint_modules = "backbone"
    params.task.init_recipe = asked
    return task.prepare(params, str(directory)).task_config.init_recipe


def test_a_run_records_what_its_classifier_was_trained_by(directory, tmp_path):
    run = _of_a_row(tmp_path / "classifier")
    assert _found(directory, "imagenet/r50", run) == _RECIPE
    assert _found(directory, _RECIPE, run) == _RECIPE
    assert _found(directory, "", run) == ""
    params = small.parameters(task={"init_recipe": "imagenet/r50"})
    assert not task.prepare(params, str(directory)).task_config.init_recipe
    # One of no row.
    shutil.copy(_RECORDED / "params.yaml", tmp_path)
    assert _found(directory, "imagenet/r50", tmp_path) == ""
    with pytest.raises(ValueError, match="no run of classification"):
        _found(directory, "imagenet/r50", "nowhere")


def test_a_run_that_goes_on_keeps_what_it_recorded(tmp_path):
    tf.train.Checkpoint(global_step=tf.Variable(3, dtype=tf.int64)).save(
        str(tmp_path / "ckpt")
    )
    before = yaml.safe_dump({"task": {"init_recipe": _RECIPE}})
    (tmp_path / "params.yaml").write_text(before)
    assert _found(tmp_path, "imagenet/r50", "gone") == _RECIPE
