"""Each recipe and each layer of the tables steps at debug size, or builds."""

import numpy as np
import pytest
import tf_keras

import evonorm_tf
from configs import tables
from detection import check_config, model, task, train
from training import config

# A row for each network and recipe, with layers such that each layer of the
# tables comes at least once. Steps of smaller models are in test_task.py.
ROWS = (
    "coco/r50_fpn/evonorm_b0",
    "coco/spinenet49s/evonorm_s0",  # Built, with gradients, in test_model.py.
    "coco/r50_fpn-finetune/gn_relu",
    "coco/r101_fpn/bn_relu",
    "coco/r50_fpn-b8/gn_relu",
    "coco/spinenet49/evonorm_b0",
    "coco/spinenet96/bn_relu",
    "coco/spinenet143/gn_relu",
    "coco_mini/overfit/bn_relu",
)


def _kinds(rows):
    """Networks and files; a sweep differs in the batch alone."""
    return {(r.recipe.files, r.settings()["task.model.network"]) for r in rows}


def test_the_rows_have_every_recipe_and_every_layer():
    chosen = [tables.find(row) for row in ROWS]
    mine = [r for r in tables.ROWS.values() if r.recipe.head == "detection"]
    assert {r.layer for r in chosen} == {r.layer for r in mine}
    assert _kinds(chosen) == _kinds(mine)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where all rows find their scenes."""
    return tmp_path_factory.mktemp("rows")


def _shrunk(row):
    tf_keras.backend.clear_session()
    params = config.parse(row=tables.find(row))
    network = params.task.model.network
    train.HEAD.shrink(params)
    assert params.task.model.network == network
    return params


def _names(built):
    return {
        site.get_config()["name_or_row"] for site in model.norm_sites(built)
    }


def test_debug_builds_the_rows_network_with_its_layer():
    params = _shrunk(ROWS[0])
    assert _names(model.build(params.task.model)) == {"evonorm_b0"}


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_debug_takes_a_step_on_the_rows_own_path(row, directory):
    params = _shrunk(row)
    # The transfer is tested by itself; there is no classifier here.
    params.task.init_checkpoint_modules = "all"
    prepared = task.prepare(params, str(directory))
    built = prepared.build_model()
    assert _names(built) == {row.rpartition("/")[2]}
    batch = next(iter(prepared.build_inputs(params.task.train_data)))
    optimizer = prepared.create_optimizer(
        params.trainer.optimizer_config, params.runtime
    )
    # Eagerly: a graph of so many parts takes a minute to trace.
    with evonorm_tf.using(xla=False):
        logs = prepared.train_step(batch, built, optimizer)
    # More than the decay: 91 or 11 equal class scores alone are above 2.
    assert 2 < float(logs[prepared.loss]) < 100
    assert all(np.isfinite(weight.numpy()).all() for weight in built.weights)
    assert int(optimizer.iterations) == 1


@pytest.mark.slow
@pytest.mark.parametrize("row", sorted({
    f"{r.recipe.id}/evonorm_b0" for r in tables.ROWS.values()
    if r.recipe.head == "detection"
}))  # fmt: skip
def test_every_row_builds_at_full_size(row):
    tf_keras.backend.clear_session()
    params = config.parse(row=tables.find(row))
    built = model.build(params.task.model)
    side = params.task.model.input_size[0]
    finest = str(params.task.model.min_level)
    outputs = (built.decoder or built.backbone).output
    assert outputs[finest].shape[1] == side // 2 ** int(finest)
    assert built.rpn_head.built and built.mask_head.built


def test_a_fine_tuning_names_its_classifier(directory):
    row = tables.find("coco/r50_fpn-finetune/bn_relu")
    params = config.parse(row=row)
    with pytest.raises(ValueError, match="init_checkpoint=RUN"):
        check_config.options(params)
    params = config.parse(row=tables.find("coco/r50_fpn/bn_relu"))
    params.task.init_checkpoint = "runs/somewhere"
    with pytest.raises(ValueError, match="To start from a classifier"):
        check_config.options(params)


@pytest.mark.slow  # Of every layer, in test_model.py.
def test_the_mask_heads_statistics_are_synchronised_with_the_others():
    """The Model Garden leaves its mask head's BatchNorm out."""
    params = config.parse(row=tables.find("coco/r50_fpn/bn_relu"))
    train.HEAD.shrink(params)
    params.task.model.norm_act.synchronized = True
    sites = model.norm_sites(model.build(params.task.model).mask_head)
    # Two convolutions at debug size, and the transposed one.
    assert [site.synchronized for site in sites] == [True] * 3


def test_settings_that_training_would_not_read_are_refused():
    params = config.parse("scenes_maskrcnn")
    params.task.train_data.tfds_name = "coco/2017"
    with pytest.raises(ValueError, match=r"train_data\.tfds_name='coco/2017'"):
        check_config.options(params)
    params = config.parse("scenes_maskrcnn")
    params.task.rpn_score_normalizer = "rois"
    with pytest.raises(ValueError, match="rpn_score_normalizer='rois'"):
        check_config.options(params)
