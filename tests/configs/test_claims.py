"""The results page's first screen: claims, and what benchmarks left."""

import json
import pathlib

import pytest

from benchmarks import cifar_curves
from training.report import claims, measured
from training.report.results import Results, Run

ROOT = pathlib.Path(__file__).parents[2]
E12 = "cifar10/resnet20-e12-b128"


def _gpu(values):
    """What `benchmarks.gpu` writes: values by layer, one for each seed."""
    rows = [
        {
            "layer": layer,
            "seed": seed,
            "accuracy": value,
            "training_loss": 0.5,
            "curve": [[3, value - 9.0, 0.9], [30, value, 0.5]],
            "network": "resnet20_cifar",
            "epochs": 30,
            "batch": 128,
        }
        for layer, each in values.items()
        for seed, value in enumerate(each)
    ]
    return {"facts": {"device": "a GPU"}, "rows": rows}


@pytest.mark.parametrize(
    ("ours", "other", "wanted"),
    [
        ([81.6], [82.8], "1.2 behind; spread unknown"),
        ([81.5, 81.7], [82.8], "1.2 behind; spread unknown"),
        ([82.0, 82.4], [82.0, 82.6], "0.1 behind, within the spread"),
        ([84.0, 84.2], [82.0, 82.2], "2.0 ahead"),
        # Two standard errors of means of three, each with deviation 1.
        ([51.0, 52.0, 53.0], [49.3, 50.3, 51.3], "1.7 ahead"),
        (
            [51.0, 52.0, 53.0],
            [49.4, 50.4, 51.4],
            "1.6 ahead, within the spread",
        ),
    ],
)
def test_a_difference_is_read_with_its_spread(ours, other, wanted):
    assert claims.verdict(ours, other) == wanted


def test_every_claim_has_its_lines_and_what_is_missing_says_so():
    known = {(E12, "evonorm_b0"): [81.6], (E12, "bn_relu"): [82.5, 83.5]}
    running = {f"{E12}/gn_silu", "cifar10/resnet20-e3-b4/bn_relu"}
    text = claims.table(known, running)
    lines = text.splitlines()
    assert len(lines) == 2 + sum(len(c.looked_for) for c in claims.read())
    assert "evonorm_b0 81.6 (1), bn_relu 83.0+-0.7 (2) | 1.4 behind" in lines[2]
    assert text.count("*running*") == 2
    assert "evonorm_s0 *not run*, gn_silu *running*" in text
    # The paper's words once, and no number of ours beside a missing run.
    assert text.count("77.8 and 76.1") == 1


def test_claims_are_looked_for_in_rows_that_there_are():
    from configs import tables

    for claim in claims.read():
        for one in claim.looked_for:
            if not one.recipe.startswith("gpu/"):
                tables.find(f"{one.recipe}/{one.layer}")
                tables.find(f"{one.recipe}/{one.other}")


def test_accuracies_are_those_of_rows_and_of_gpus():
    def run(**reached):
        return Run("run", {}, 1, reached, "a device", "a machine")

    results = Results(
        {f"{E12}/bn_relu": [run(accuracy=0.8)], "coco/x/bn_relu": [run(ap=1.0)]}
    )
    found = claims.accuracies(results, [_gpu({"evonorm_s0": [90.0, 91.0]})])
    assert found == {
        (E12, "bn_relu"): [80.0],
        ("gpu/resnet20_cifar-e30-b128", "evonorm_s0"): [90.0, 91.0],
    }
    text = claims.table(found | {(E12, "evonorm_b0"): [81.0]}, set())
    assert "evonorm_s0 90.5+-0.7 (2), gn_silu *not run*" in text


def test_a_seed_that_was_trained_twice_counts_once(tmp_path):
    document = _gpu({"bn_relu": [85.8, 85.0, 86.0]})
    for row, seed in zip(document["rows"], (0, 1, 1)):
        row["seed"] = seed
    key = ("gpu/resnet20_cifar-e30-b128", "bn_relu")
    found = claims.accuracies(Results({}), [document])[key]
    assert found == pytest.approx([85.8, 85.5])
    assert "| bn_relu | 85.7+-0.2 (2) | 0.500 |" in measured.gpu([document])
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu/cifar.json").write_text(json.dumps(document))
    [panel] = cifar_curves.of_gpus(tmp_path).values()
    assert panel["bn_relu"] == [{3: 76.8, 30: 85.8}, {3: 76.5, 30: 85.5}]


def test_what_benchmarks_left_is_shown_and_what_they_did_not_is_not_run(
    tmp_path,
):
    assert measured.read(tmp_path, "convergence.json") is None
    assert measured.gpu_documents(tmp_path) == []
    for shown in (measured.convergence, measured.finetune):
        assert shown(None) == measured.NOT_RUN
    assert measured.gpu([]) == measured.NOT_RUN
    moments = {
        "middle": {"moving": 0.4, "batch": 0.5, "recalibrated": 0.45},
        "end": {"moving": 0.6},
    }
    sites = [
        {"v_mean": 1.0, "v_std": 0.1, "bounded": 0.25},
        {"v_mean": 2.0, "v_std": 0.1, "bounded": 0.5},
    ]
    result = {"name": "evonorm_b0", "training_loss": 1.25, "sites": sites}
    text = measured.convergence({"results": [result | {"accuracy": moments}]})
    cells = "| 1.250 | 40.0 | 50.0 | 45.0 | 60.0 |  |  | 1.50 | 0.25 to 0.50 |"
    assert text.splitlines()[-1] == f"| evonorm_b0 {cells}"
    low, high = (
        {"arm": "gn_silu", "rate": rate, "accuracy": end}
        | {"curve": [[0, 0.1], [50, middle]]}
        for rate, middle, end in ((0.001, 0.3, 0.45), (0.01, 0.5, 0.625))
    )
    document = {"settings": {"steps": 99}}
    document["results"] = [low, high, low | {"arm": "bn_trained"}]
    assert measured.finetune(document).splitlines() == [
        "|  | rate 0.001 | rate 0.01 |",
        "| --- | --- | --- |",
        "| gn_silu | 45.0 | 62.5 |",
        "| bn_trained | 45.0 | *Not run.* |",
        "",
        "|  | best rate | 0 | 50 | 99, all images |",
        "| --- | --- | --- | --- | --- |",
        "| gn_silu | 0.01 | 10.0 | 50.0 | 62.5 |",
        "| bn_trained | 0.001 | 10.0 | 30.0 | 45.0 |",
    ]
    text = measured.gpu([_gpu({"bn_relu": [90.0, 91.0]})])
    assert "resnet20_cifar, 30 epochs, batch 128; a GPU." in text
    assert "| bn_relu | 90.5+-0.7 (2) | 0.500 |" in text


def test_gaps_are_read_off_a_runs_lines():
    folder = ROOT / "docs/runs/cifar10/resnet20-e12-b128"
    text = measured.gaps(folder, ("bn_relu",), (1170, 4680))
    assert text.splitlines()[-1] == "| bn_relu | 70.0 | 65.2 | 85.6 | 82.8 |"


def test_curves_are_drawn_of_recorded_runs_and_of_gpus(tmp_path):
    (tmp_path / "gpu-one").mkdir()
    document = _gpu({"bn_relu": [90.0, 91.0]})
    (tmp_path / "gpu-one/cifar.json").write_text(json.dumps(document))
    gpus = cifar_curves.of_gpus(tmp_path)
    title = "ResNet-20, 30 epochs, batch 128, GPU"
    assert gpus == {
        title: {"bn_relu": [{3: 81.0, 30: 90.0}, {3: 82.0, 30: 91.0}]}
    }
    panels = cifar_curves.of_runs(ROOT / "docs/runs/cifar10")
    curve = panels["ResNet-20, 12 epochs, batch 128"]["bn_relu"][0]
    assert max(curve) == pytest.approx(12, abs=0.01)
    assert curve[max(curve)] == pytest.approx(82.8, abs=0.05)
    figure = cifar_curves.figure(panels | gpus)
    assert len(figure.axes) == len(panels) + 1
    with pytest.raises(ValueError, match="no finished run"):
        cifar_curves.figure({})
