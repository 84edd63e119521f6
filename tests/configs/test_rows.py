"""Rows: every cell of the paper's classification tables, once, runnable."""

import shlex
import subprocess
import sys

import pytest

from classification import experiment
from classification.tables import TABLES
from configs import tables
from training import config
from training.report import tables as rows

TOP1 = rows.Metric("top-1 %", "accuracy", 100.0)
OURS = [r for r in tables.ROWS.values() if r.recipe.head == "classification"]


def _numbers(table):
    return [v for values in table.values.values() for v in values]


def test_every_cell_of_the_papers_classification_tables_is_there():
    counts = {
        table.title.split(":")[0]: len([v for v in _numbers(table) if v])
        for table in TABLES.tables.values()
    }
    # Layers by columns: 9 x 6, 7 x 5, 7 x 6, 7 x 6; none of ours is theirs.
    assert list(counts.values()) == [0, 0, 54, 35, 42, 42]
    assert all(v.grade in "AB" for t in tables.TABLES for v in _numbers(t) if v)
    # R-50 and MobileNetV2 stand in two tables with 7 common layers each.
    imagenet = [row for row in tables.ROWS if row.startswith("imagenet/")]
    assert len(imagenet) == 54 + 35 - 14 + 84


@pytest.mark.parametrize(
    ("row", "printed"),
    [
        ("imagenet/r50/evonorm_b0", ["77.8", "76.6+-0.0"]),
        ("imagenet/r50-aug-2x-cosine/random_rej", ["55.3+-17.5"]),
        ("imagenet/mobilenet_v2-b4/gn_swish", ["73.5"]),
        ("imagenet/effnet_b5/bn_swish", ["83.5"]),
        ("imagenet/r50-b4/bn_relu", ["70.7"]),
        ("cifar10/resnet20-b4/bn_relu", []),
    ],
)
def test_a_row_has_what_the_paper_prints_for_it(row, printed):
    paper = tables.find(row).paper[TOP1]
    assert [value.printed for value in paper] == printed


def test_unknown_row_names_the_nearest():
    with pytest.raises(
        ValueError, match=r"Did you mean .*imagenet/r50-aug/bn_relu"
    ):
        tables.find("imagenet/r50-aug/bn_rel")


def test_two_recipes_of_one_id_and_ragged_blocks_are_refused():
    other = rows.Recipe("imagenet/r50", "classification", "imagenet")
    column = rows.Column("R-50", other, TOP1)
    table = rows.Table("other", (column,), {"bn_relu": (None,)})
    with pytest.raises(ValueError, match="id='imagenet/r50'"):
        rows.collect([TABLES.tables["architectures"], table])
    with pytest.raises(ValueError, match="gn_relu 2"):
        rows.block("bn_relu 1 2\ngn_relu 2", "A", "nowhere")
    with pytest.raises(ValueError, match="bn_relu 2"):
        rows.block("bn_relu 1\nbn_relu 2", "A", "nowhere")


# Of each recipe one row, and of one recipe all layers; its layer is all that a
# row adds.
_FEW = [
    row
    for row in OURS
    if row.layer == "bn_relu" or row.recipe.id == "imagenet/r50-b128"
]


@pytest.mark.parametrize(
    "few", [_FEW, pytest.param(OURS, marks=pytest.mark.slow)], ids=len
)
def test_every_row_is_a_valid_config_and_says_what_its_run_will_be(few):
    seen = {}
    for row in few:
        params = config.parse(row=row)
        experiment.fill_in(params.task)
        resolved = rows.flat(params.as_dict())
        # What a row names is what its run has: results are matched by it.
        for key, value in row.settings().items():
            if value is not None:
                assert resolved[key] == value, (row.id, key)
        assert resolved["task.model.dropout"] is not None
        assert resolved["task.validation_data.image_size"] is not None
        assert row.recipe.steps() > 0
        seen.setdefault(str(resolved), []).append(row.id)
    # A column of the sweep is the whole recipe at the paper's own batch.
    twice = [ids for ids in seen.values() if len(ids) > 1]
    assert all(len(ids) == 2 and "-b128/" in ids[1] for ids in twice), twice
    assert {ids[0].split("/")[1] for ids in twice} == {"r50", "mobilenet_v2"}


def test_two_heads_with_one_id_are_refused(monkeypatch):
    recipe = rows.Recipe("imagenet/r50", "other", "imagenet")
    table = rows.Table(
        "x", (rows.Column("R-50", recipe, TOP1),), {"bn_relu": (None,)}
    )
    monkeypatch.setattr(rows, "read", lambda head: {"x": table})
    with pytest.raises(ValueError, match="classification and other"):
        rows.register("other", lambda row: None)
    assert "other" not in rows.heads()


def test_recipes_are_those_of_section_6():
    def resolved(row):
        params = config.parse(row=tables.find(row))
        experiment.fill_in(params.task)
        return params, params.task

    params, resnet = resolved("imagenet/r50/bn_relu")
    assert resnet.train_data.global_batch_size == 1024
    assert (resnet.schedule.epochs, resnet.schedule.warmup_epochs) == (90, 5)
    assert (resnet.weight_decay, resnet.label_smoothing) == (1e-4, 0.0)
    sgd = params.trainer.optimizer_config.optimizer
    assert (sgd.type, sgd.sgd.momentum, sgd.sgd.nesterov) == ("sgd", 0.9, True)
    assert params.trainer.optimizer_config.ema is None
    _, best = resolved("imagenet/r50-aug-2x-cosine/bn_relu")
    assert (best.schedule.epochs, best.schedule.decay) == (180, "cosine")
    assert best.train_data.randaugment_layers == 2
    assert best.validation_data.randaugment_layers == 0

    params, mobile = resolved("imagenet/mobilenet_v2-b4/bn_relu")
    assert mobile.train_data.global_batch_size == 32 * 4
    assert (mobile.weight_decay, mobile.label_smoothing) == (1e-5, 0.1)
    assert (mobile.model.dropout, mobile.model.stochastic_depth) == (0.2, 0.0)
    optimizer = params.trainer.optimizer_config
    assert optimizer.optimizer.type == "rmsprop"
    assert optimizer.optimizer.rmsprop.epsilon == 1e-3
    assert optimizer.ema.average_decay == 0.9999
    _, large = resolved("imagenet/effnet_b5/bn_relu")
    assert large.train_data.image_size == 456
    assert large.validation_data.image_size == 456
    assert large.train_data.global_batch_size == 2048
    assert large.model.dropout == 0.4
    assert large.model.stochastic_depth > 0


def test_a_listing_needs_no_tensorflow():
    code = "import sys; import configs.tables; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "configs.tables" in found
    assert not {"tensorflow", "keras", "classification.task"} & set(found)


def test_listing_prints_ids_numbers_and_commands(capsys):
    tables.main(["imagenet/r50-aug/evonorm_b0"])
    first, about, run = capsys.readouterr().out.splitlines()
    assert first == "imagenet/r50-aug/evonorm_b0"
    assert "77.7+-0.1" in about and "grade B" in about
    assert "112,603 steps" in about  # 90 epochs of 1,281,167 by 1024
    words = shlex.split(run)
    assert words[:3] == ["python", "-m", "classification.train"]
    assert "--row=imagenet/r50-aug/evonorm_b0" in words
    with pytest.raises(SystemExit, match="No row's id has this prefix"):
        tables.main(["cifar100"])


def test_recipe_of_a_table_takes_any_layer_of_the_catalog():
    """The paper's table has no S0 in the plain recipe; it can be run."""
    row = tables.find("imagenet/r50/evonorm_s0")
    assert row.id not in tables.ROWS
    assert row.paper == {TOP1: ()}
    assert config.parse(row=row).task.model.norm_act.name == "evonorm_s0"
