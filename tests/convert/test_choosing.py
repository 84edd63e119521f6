"""What is recommended, and that its sources say what is claimed."""

import json
import pathlib
import re
import statistics

import numpy as np
import pytest

import evonorm_tf
from evonorm_tf import choosing
from training.report import tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "choosing.md").read_text()
TASKS = choosing.TASKS
CLASSIFICATION = tables.read("classification")
DETECTION, GAN = tables.read("detection"), tables.read("gan")
TABLES = {
    "ResNet-50": CLASSIFICATION["r50_batches"],
    "MobileNetV2": CLASSIFICATION["mobilenet_batches"],
}


def _paper(table, layer):
    """{heading: number} of a layer in a table of the paper's numbers."""
    return {
        column.heading: value.number
        for name, column, value in table.cells()
        if name == layer and value is not None
    }


@pytest.mark.parametrize(
    ("batch", "task", "small_maps", "layer", "least"),
    [
        (128, "classification", False, "evonorm_b0", 1),
        (64, "classification", True, "evonorm_b0", 1),
        (63, "classification", False, "evonorm_s0", 1),
        (1, "classification", True, "evonorm_s0", 16),
        (2, "detection", False, "evonorm_s0", 1),
        (64, "detection", False, "evonorm_b0", 1),
        (256, "gan", True, "evonorm_s0", 16),
    ],
)
def test_recommendation(batch, task, small_maps, layer, least):
    found = evonorm_tf.recommend(
        batch_per_replica=batch, task=task, small_maps=small_maps
    )
    assert (found.layer, found.min_group_size) == (layer, least)
    evonorm_tf.norm_act(found.layer, **found.options())
    for reason in found.reasons:
        assert reason.claim and reason.source
        assert str(reason) in str(found)
        for path in re.findall(r"docs/\w+\.md", reason.source):
            assert (ROOT / path).is_file()


@pytest.mark.parametrize("network", TABLES)
def test_the_batch_table_is_the_papers(network):
    for column, layer in enumerate(("bn_relu", "evonorm_s0")):
        wanted = _paper(TABLES[network], layer)
        ours = choosing.BY_BATCH[network]
        assert {str(b): v[column] for b, v in ours.items()} == wanted


def test_the_threshold_is_where_batch_norm_begins_to_lose():
    level = {
        batch: all(
            abs(rows[batch][0] - rows[128][0]) < 0.11
            for rows in choosing.BY_BATCH.values()
        )
        for batch in (64, 32)
    }
    assert level == {64: True, 32: False}
    cited = evonorm_tf.recommend(batch_per_replica=20)
    claims = " ".join(reason.claim for reason in cited.reasons)
    assert "16 images per worker: bn_relu 75.6 %, evonorm_s0 77.3 %" in claims


def _claims(**asked):
    found = evonorm_tf.recommend(**asked)
    return " ".join(reason.claim for reason in found.reasons)


def test_other_claims_are_in_the_tables():
    b0 = _paper(CLASSIFICATION["architectures"], "evonorm_b0")
    for network in ("R-50", "R-101", "MobileNetV2"):
        assert b0[network] == max(
            _paper(CLASSIFICATION["architectures"], layer)[network]
            for layer in CLASSIFICATION["architectures"].values
        )
    silu = _paper(CLASSIFICATION["architectures"], "bn_silu")["EffNet-B0"]
    said = _claims(batch_per_replica=128)
    for number in (b0["R-50"], silu, b0["EffNet-B0"]):
        assert f"{number} %" in said
    assert silu > b0["EffNet-B0"]
    said = _claims(batch_per_replica=2, task="detection")
    for layer in ("evonorm_b0", "evonorm_s0", "gn_relu", "bn_relu"):
        box = _paper(DETECTION["r50_fpn"], layer)["box AP %"]
        assert f"{layer} {box}" in said
    said = _claims(batch_per_replica=256, task="gan")
    for layer in ("evonorm_s0", "evonorm_b0", "bn_relu"):
        values = _paper(GAN["synthesis"], layer)
        assert f"{layer} {values['FID']}" in said
        assert str(values["IS"]) in said


def test_what_is_said_of_a_trained_network_is_our_measurement():
    best = {}
    file = ROOT / "docs" / "runs" / "finetune-lite0.json"
    for result in json.loads(file.read_text())["results"]:
        accuracy = 100 * result["accuracy"]
        best[result["arm"]] = max(accuracy, best.get(result["arm"], 0))
    said = _claims(batch_per_replica=8, pretrained=True)
    for arm in ("evonorm_b0", "gn_silu", "evonorm_s0"):
        assert f"{arm} {best[arm]:.1f} %" in said
    assert f"frozen statistics, {best['bn_frozen']:.1f} %" in said
    assert f"trained, {best['bn_trained']:.1f} %" in said
    assert "fine-tuning" not in _claims(batch_per_replica=8)


def test_what_is_said_of_small_batches_is_our_measurement():
    said = _claims(batch_per_replica=8)
    runs = ROOT / "docs" / "runs" / "cifar10"

    def mean(recipe, layer, steps):
        seeds = sorted((runs / recipe / layer).glob("seed*/metrics.jsonl"))
        lasts = [json.loads(s.read_text().splitlines()[-1]) for s in seeds]
        assert all((x["kind"], x["step"]) == ("eval", steps) for x in lasts)
        assert len(lasts) == 2 and "two seeds" in said
        return 100 * statistics.fmean(x["accuracy"] for x in lasts)

    for layer in ("bn_relu", "evonorm_b0", "evonorm_s0"):
        large = mean("resnet20-e3-b128", layer, 1172)
        small = mean("resnet20-e3-b4", layer, 37500)
        assert f"{layer} {large:.1f} to {small:.1f} %" in said
    assert "do not confirm" not in _claims(batch_per_replica=256)


def test_what_the_page_says_of_families():
    table = CLASSIFICATION["architectures"]
    b0, b1, b2 = (_paper(table, f"evonorm_b{k}") for k in range(3))
    assert all(b0[n] >= max(b1[n], b2[n]) for n in b0)
    for table in TABLES.values():
        s0, s1, s2 = (_paper(table, f"evonorm_s{k}") for k in range(3))
        assert all(s0[n] >= s2[n] and abs(s0[n] - s1[n]) < 0.31 for n in s0)
    table = CLASSIFICATION["resnet_recipes"]
    behind = {
        heading
        for heading, number in _paper(table, "evonorm_b0").items()
        if number < max(_paper(table, n)[heading] for n in table.values)
    }
    assert behind == {"R-50 +aug 2x"}
    text = (ROOT / "docs" / "performance.md").read_text()
    text = text[: text.index("## CPU: single layers on JAX")]
    time = {
        name: [float(a), float(b)]
        for name, a, b in re.findall(
            r"\| (evonorm_s\d) \| ([\d.]+) \| ([\d.]+) \|", text
        )
    }
    for k in range(2):
        assert time["evonorm_s0"][k] > time["evonorm_s1"][k]
        assert time["evonorm_s0"][k] > time["evonorm_s2"][k]


def test_what_the_page_says_of_our_runs():
    """Directions, not numbers: those are in the generated page."""
    text = (ROOT / "docs" / "results.md").read_text()
    part = text[text.index("### CIFAR-10, ResNet-20 for 2 epochs") :]
    rows = dict(re.findall(r"\| (\w+) \|(.+)\|", part[: part.index("Rows:")]))

    def value(layer, column):
        cell = rows[layer].split("|")[column]
        return float(cell.split("+-")[0].split("(")[0])

    said = "At batch 128 the order is `bn_relu`, `evonorm_b0`, `evonorm_s0`."
    assert said in " ".join(PAGE.split())
    at_128 = [value(n, 0) for n in ("bn_relu", "evonorm_b0", "evonorm_s0")]
    assert at_128 == sorted(at_128, reverse=True)
    names = [name for name in rows if name != "layer"]
    assert len(names) == 6
    for name in names:
        loses = value(name, -1) < value(name, 0)
        assert loses == (name == "bn_relu"), name
    assert max(names, key=lambda n: value(n, -1)) == "evonorm_b0"


def test_the_scatter_of_small_groups():
    page = {
        key: [float(word) for word in row.split("|")[1:-1]]
        for key, row in re.findall(r"\| (elements|minimum|maximum) (.+)", PAGE)
    }
    rng = np.random.default_rng(1)
    for k, elements in enumerate(page["elements"]):
        x = rng.standard_normal((100_000, int(elements)))
        factor = 1.0 / np.sqrt(x.var(1) + 1e-5)
        least, greatest = np.percentile(factor, [1, 99])
        assert least == pytest.approx(page["minimum"][k], rel=0.03)
        # So rare are the smallest variances of two elements.
        wide = 0.1 if elements == 2 else 0.04
        assert greatest == pytest.approx(page["maximum"][k], rel=wide)


@pytest.mark.parametrize(
    "asked",
    [
        {"batch_per_replica": 0},
        {"batch_per_replica": 2.5},
        {"batch_per_replica": None},
        {"batch_per_replica": 8, "task": "segmentation"},
    ],
)
def test_wrong_requests(asked):
    with pytest.raises(ValueError, match="Received"):
        evonorm_tf.recommend(**asked)


@pytest.mark.parametrize("name", ["small_maps", "pretrained"])
def test_flags_are_flags(name):
    with pytest.raises(TypeError, match=f"Received: {name}='yes'"):
        evonorm_tf.recommend(batch_per_replica=8, **{name: "yes"})
