"""Found layers through the classification head: re-ranked, and trained."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest

from classification import experiment, rerank
from evonorm_tf import graphs
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal
from tests.search.fakes import FakePool, small
from training import config

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
LAYERS = [(4, 0.5, "a.json"), (9, 0.4, "b.json"), (2, 0.3, "c.json")]


@pytest.fixture
def head(monkeypatch):
    """A head whose layer b is the best; `head.fails` makes it fail."""

    class Head:
        fails, complete = False, True

        def __init__(self):
            self.calls, self.commands = [], []

        def run(self, given):
            self.commands.append(given)
            flags = dict(f[2:].split("=", 1) for f in given[3:] if "=" in f)
            self.calls.append(flags)
            os.makedirs(flags["model_dir"], exist_ok=True)
            accuracy = 0.9 if flags["norm_act"] == "b.json" else 0.6
            lines = [{"kind": "train", "step": 2, "accuracy": 0.1}]
            if self.complete:
                lines.append({"kind": "eval", "step": 2, "accuracy": accuracy})
            with open(f"{flags['model_dir']}/metrics.jsonl", "w") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            code = 1 if self.fails else 0
            return subprocess.CompletedProcess(given, code)

    made = Head()
    monkeypatch.setattr(rerank.subprocess, "run", made.run)
    return made


def test_the_head_decides_and_what_ended_is_not_run_again(head, tmp_path):
    rows = rerank.run(LAYERS[:2], str(tmp_path), "digits_resnet")
    assert [(r.id, r.search, r.accuracy) for r in rows] == [
        *((9, 0.4, 0.9), (4, 0.5, 0.6)),
    ]
    again = rerank.run(LAYERS, str(tmp_path), "digits_resnet")
    assert [r.id for r in again] == [9, 4, 2]
    assert [call["norm_act"] for call in head.calls] == [
        *("a.json", "b.json", "c.json"),
    ]
    rerank.run(LAYERS[:1], str(tmp_path), "imagenet")  # Another command.
    assert len(head.calls) == 4


def test_a_head_that_fails_loses_nothing(head, tmp_path):
    rerank.run(LAYERS[:1], str(tmp_path), "digits_resnet")
    head.fails = True
    with pytest.raises(RuntimeError, match=r"status 1 on layer 9"):
        rerank.run(LAYERS, str(tmp_path), "digits_resnet")
    head.fails = False
    rerank.run(LAYERS[:1], str(tmp_path), "digits_resnet")
    assert len(head.calls) == 2
    head.complete = False
    with pytest.raises(RuntimeError, match="not evaluated"):
        rerank.run(LAYERS, str(tmp_path), "digits_resnet")


@pytest.mark.parametrize(
    "override",
    [
        ["--params_override=task.seed=1"],
        ["--params_override", "task.seed=1"],
        ["--params_override={task: {seed: 1}}"],
    ],
)
def test_layers_are_ranked_by_training_images_held_out(
    head, tmp_path, override
):
    small_batch = "configs/classification/cifar10_small_batch.yaml"
    flags = [f"--config_file={small_batch}", *override]
    rerank.run(LAYERS[:1], str(tmp_path), "cifar10_resnet", flags, held_out=20)
    *given, last = head.commands[0]
    assert given[-len(flags) :] == flags
    file = last.removeprefix("--config_file=")
    text = override[-1].removeprefix("--params_override=")
    assert experiment.cifar10_resnet  # Registered.
    params = config.parse("cifar10_resnet", [small_batch, file], None, text)
    assert params.task.train_data.split == "train[:80%]"
    assert params.task.validation_data.split == "train[80%:]"
    assert params.task.seed == 1


def test_layers_may_be_ranked_by_the_validation_images(head, tmp_path):
    rerank.run(LAYERS[:1], str(tmp_path), "cifar10_resnet", (), held_out=0)
    assert "config_file" not in head.calls[0]
    with pytest.raises(ValueError, match="held_out=100"):
        rerank.run(LAYERS[:1], str(tmp_path), "imagenet", (), held_out=100)


def test_only_accuracies_of_the_same_command_are_ranked(head, tmp_path):
    rerank.run(LAYERS[:2], str(tmp_path), "digits_resnet")
    rows = rerank.run(LAYERS[:1], str(tmp_path), "digits_resnet", ["--debug"])
    assert [row.id for row in rows] == [4]
    assert rows[0].command.endswith("--debug")


@pytest.mark.parametrize("changed", ["layer", "config"])
@pytest.mark.parametrize("form", ["--config_file={}", "--config_file {}"])
def test_an_accuracy_is_of_the_content_of_its_files(
    head, tmp_path, changed, form
):
    paths = {name: tmp_path / f"{name}.txt" for name in ("layer", "config")}
    for path in paths.values():
        path.write_text("old")
    folder = tmp_path / "rerank"
    flags = form.format(paths["config"]).split()

    def ranked(score):
        layers = [(4, score, str(paths["layer"]))]
        (row,) = rerank.run(layers, str(folder), "digits_resnet", flags)
        return row

    ranked(0.5)
    assert ranked(0.7).search == 0.7  # Confirmed by the search meanwhile.
    assert len(head.calls) == 1
    paths[changed].write_text("new")
    with pytest.raises(ValueError, match=r"Layer 4 .* has changed since"):
        ranked(0.5)
    shutil.rmtree(folder / "4")
    ranked(0.5)
    ranked(0.5)
    assert len(head.calls) == 2
    assert len(rerank._read(str(folder / "rerank.csv"))) == 1


def test_a_table_of_an_earlier_version_is_read(head, tmp_path, capsys):
    rerank.run(LAYERS[:1], str(tmp_path), "digits_resnet")
    path = tmp_path / "rerank.csv"
    with open(path, newline="") as file:
        rows = [row[:4] for row in csv.reader(file)]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    again = rerank.run(LAYERS[:2], str(tmp_path), "digits_resnet")
    assert [(row.id, bool(row.digest)) for row in again] == [
        *((9, True), (4, False)),
    ]
    assert len(head.calls) == 2
    assert "assumed to be unchanged" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flag",
    ["--debug", "--debug=true", "-debug", "--nodebug", "--norm_act=bn_relu"],
)
def test_the_head_is_not_told_what_this_command_says(flag, tmp_path, capsys):
    given = [f"--output={tmp_path}", f"--head={flag}"]
    assert rerank.main(given) == 2
    assert f"Received: head='{flag}'" in capsys.readouterr().err


def test_a_search_without_layers_has_nothing_to_rerank(tmp_path, capsys):
    Journal(str(tmp_path), small().identity()).close()
    assert rerank.main([f"--output={tmp_path}"]) == 2
    assert "accepted no layer" in capsys.readouterr().err


@pytest.mark.slow
def test_the_best_of_a_search_trains_in_the_head(tmp_path):
    settings = small(trials=12)
    journal = Journal(str(tmp_path), settings.identity())
    Driver(settings, journal).run(FakePool())
    journal.close()
    given = [sys.executable, "-m", "classification.rerank", "--debug"]
    given += [f"--output={tmp_path}", "--top=1", "--experiment=digits_resnet"]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (row,) = rerank._read(str(tmp_path / "rerank" / "rerank.csv"))
    # The made-up accuracies chose it; what the head found is real.
    assert 0.0 <= row.accuracy <= 1.0
    with open(tmp_path / "rerank" / str(row.id) / "params.yaml") as file:
        layer = next(line for line in file if f"_{row.id}.json" in line)
    path = layer.split(": ")[1].strip()
    with open(path) as file:
        graph = graphs.from_json(json.load(file))
    assert graph.live()
