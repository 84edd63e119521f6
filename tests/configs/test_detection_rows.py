"""Rows of the detection tables: every number of the paper's, runnable."""

import pytest

from configs import tables
from detection import check_config
from detection import experiment as _registers  # noqa: F401
from detection.tables import TABLES
from training import config
from training.report import page, results
from training.report import tables as rows

ROWS = [r for r in tables.ROWS.values() if r.recipe.head == "detection"]


def test_every_cell_of_the_papers_table_is_there():
    paper = ("r50_fpn", "r101_fpn")
    counts = [
        len([v for values in table.values.values() for v in values if v])
        for table in TABLES.tables.values()
    ]
    # Four layers by six APs, multiply-adds and parameters; none of ours.
    assert counts == [32 if t in paper else 0 for t in TABLES.tables]
    # Two of the paper's; four SpineNets, three batches, a fine-tuning and the
    # eight images beside them; four layers each.
    assert len(ROWS) == 4 * (2 + 4 + 3 + 1 + 1)


@pytest.mark.parametrize(
    ("row", "printed"),
    [
        (
            "coco/r50_fpn/evonorm_b0",
            "44.0 65.2 48.1 39.5 62.7 42.4 332.3 46.38",
        ),
        ("coco/r101_fpn/gn_relu", "44.0 64.7 48.3 39.4 62.1 42.7 410.3 65.36"),
    ],
)
def test_a_row_has_what_the_paper_prints_for_it(row, printed):
    paper = tables.find(row).paper
    assert [v.printed for (v,) in paper.values()] == printed.split()
    assert [m.key for m in paper][:4] == ["AP", "AP50", "AP75", "mask_AP"]


def _all_rows():
    """Fast are one of each recipe, and of one all: a layer is what rows add."""
    for row in ROWS:
        few = row.layer == "bn_relu" or row.recipe.id == "coco/r50_fpn"
        marks = () if few else pytest.mark.slow
        yield pytest.param(row, id=row.id, marks=marks)


@pytest.mark.parametrize("row", list(_all_rows()))
def test_every_row_is_a_valid_config_and_says_what_its_run_will_be(row):
    params = config.parse(row=row)
    if "finetune" in row.id:
        with pytest.raises(ValueError, match="To start from a classifier"):
            check_config.options(params)
        params.task.init_checkpoint = "RUN"
    check_config.options(params)
    resolved = rows.flat(params.as_dict())
    for key, value in row.settings().items():
        assert resolved[key] == value, key
    assert row.recipe.steps() == params.trainer.train_steps
    sides = params.task.model.input_size[:2]
    assert not any(side % 2**params.task.model.max_level for side in sides)
    assert params.task.train_data.num_examples == row.recipe.examples
    command = row.command()
    assert "detection.train" in command and f"--row={row.id}" in command
    assert ("init_checkpoint=RUN" in command) == ("finetune" in row.id)


def test_recipes_are_those_of_section_6():
    def resolved(row):
        params = config.parse(row=tables.find(row))
        optimizer = params.trainer.optimizer_config
        assert (optimizer.optimizer.type, optimizer.optimizer.sgd.momentum) == (
            "sgd",
            0.9,
        )
        rate = optimizer.learning_rate.stepwise
        return params, list(rate.boundaries), list(rate.values)

    params, boundaries, rates = resolved("coco/r101_fpn/bn_relu")
    task = params.task
    assert task.model.network == "resnet101_postact"
    assert list(task.model.input_size) == [1024, 1024, 3]
    assert task.train_data.global_batch_size == 64
    assert (params.trainer.train_steps, boundaries) == (
        135_000,
        [120_000, 125_000],
    )
    assert rates == [0.1, 0.01, 0.001]
    assert task.losses.l2_weight_decay == 1e-4

    params, boundaries, rates = resolved("coco/spinenet96/bn_relu")
    task = params.task
    assert task.train_data.global_batch_size == 256
    assert (params.trainer.train_steps, boundaries) == (
        162_050,
        [148_160, 157_420],
    )
    assert rates == [0.28, 0.028, 0.0028]
    assert task.losses.l2_weight_decay == 4e-5
    parser = task.train_data.parser
    assert (parser.aug_scale_min, parser.aug_scale_max) == (0.5, 2.0)
    assert (task.model.min_level, task.model.max_level) == (3, 7)

    params, boundaries, rates = resolved("coco/r50_fpn-b8/evonorm_s0")
    assert params.task.train_data.global_batch_size == 8
    # An eighth of the rate for eight times the steps.
    assert params.trainer.train_steps == 8 * 135_000
    assert boundaries == [960_000, 1_000_000]
    assert rates == pytest.approx([0.0125, 0.00125, 0.000125])


def test_the_experiment_is_the_first_recipe():
    bare = rows.flat(config.parse("coco_maskrcnn").as_dict())
    row = rows.flat(
        config.parse(row=tables.find("coco/r50_fpn/evonorm_s0")).as_dict()
    )
    counted = {f"task.{s}_data.num_examples" for s in ("train", "validation")}
    counted.add("task.validation_data.num_objects")
    assert {k for k in row if row[k] != bare[k]} == counted


def _run(row, **changes):
    """A finished run of a row, as `results.read` finds it."""
    params = config.parse(row=tables.find(row))
    batch = params.task.train_data.global_batch_size
    settings = rows.flat(params.as_dict())
    settings |= {
        "task.train_data.input_path": "/data/train*",
        "task.annotation_file": "/data/instances.json",
    }
    return results.Run(
        folder="runs/one",
        settings=settings | changes,
        step=params.trainer.train_steps,
        reached={"kind": "eval", "AP": 0.421, "mask_AP": 0.378},
        devices=f"one, batch {batch} ({batch} a replica)",
        machine="none",
    )


def _trial(row, **changes):
    """What differs in the only run of a row."""
    found = results.sort([_run(row, **changes)], tables.ROWS)
    assert not found.by_row
    ((_, nearest, different),) = found.trials
    assert nearest == row
    return different


def test_another_data_set_of_cocos_size_is_a_trial():
    key = "task.validation_data.num_objects"
    different = _trial("coco/r50_fpn/bn_relu", **{key: 36_000})
    # Those of instances_val2017.json.
    assert different == {key: (36_781, 36_000)}
    # A recipe that names no number does not look.
    row = "coco_mini/overfit/bn_relu"
    assert list(results.sort([_run(row)], tables.ROWS).by_row) == [row]


@pytest.mark.parametrize("recipe", ["", "imagenet/r50-aug"])
def test_a_fine_tuning_from_another_classifier_is_a_trial(recipe):
    row, key = "coco/r50_fpn-finetune/gn_relu", "task.init_recipe"
    place = {"task.init_checkpoint": "anywhere/run"}
    found = results.sort([_run(row, **place)], tables.ROWS)
    assert list(found.by_row) == [row]
    different = _trial(row, **place, **{key: recipe})
    assert different == {key: ("imagenet/r50", recipe)}


@pytest.mark.parametrize(
    "change",
    [
        {"task.per_category_metrics": True},
        {"task.allow_image_summary": True},
        {"task.validation_data.cache": True},
        {"task.validation_data.deterministic": True},
        {"task.validation_data.prefetch_buffer_size": 2},
        {"task.validation_data.parser.max_num_instances": 300},
        {"task.validation_data.parser.mask_crop_size": 28},
    ],
    ids=str,
)
def test_what_is_shown_and_how_fast_changes_no_row(change):
    row = "coco/r101_fpn/evonorm_b0"
    assert change.items() & _run(row).settings.items() == set()
    found = results.sort([_run(row, **change)], tables.ROWS)
    assert list(found.by_row) == [row]


@pytest.mark.parametrize(
    "change",
    [
        {"task.validation_data.dtype": "bfloat16"},
        {"task.train_data.parser.mask_crop_size": 56},
        {"task.train_data.parser.max_num_instances": 10},
    ],
    ids=str,
)
def test_what_changes_a_figure_is_a_trial(change):
    assert set(_trial("coco/r101_fpn/evonorm_b0", **change)) == set(change)


def test_a_run_fills_its_row_and_a_part_of_the_validation_set_does_not():
    found = results.sort([_run("coco/r50_fpn/evonorm_b0")], tables.ROWS)
    assert list(found.by_row) == ["coco/r50_fpn/evonorm_b0"]
    text = page.markdown([TABLES.tables["r50_fpn"]], found, ".")
    text = text[text.index("### Mask R-CNN") :]
    (line,) = [x for x in text.splitlines() if x.startswith("| evonorm_b0")]
    assert "44.0 / 42.1 (1)" in line and "39.5 / 37.8 (1)" in line
    # What runs do not measure stands as the paper has it.
    assert line.endswith("| 332.3 | 46.38 |")
    part = {"task.validation_data.num_examples": 79}
    found = results.sort([_run("coco/r50_fpn/evonorm_b0", **part)], tables.ROWS)
    assert not found.by_row
    ((_, row, different),) = found.trials
    assert row == "coco/r50_fpn/evonorm_b0" and list(different) == list(part)
