"""Known layers and judgements stand beside a search and change nothing."""

import contextlib
import itertools
import pathlib
import re
import sqlite3

import pytest

from evonorm_tf import graphs
from evonorm_tf.search import __main__ as command
from evonorm_tf.search import commands, evolution, references, report, stages
from evonorm_tf.search.ablation import __main__ as ablation
from evonorm_tf.search.ablation import arms
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal
from tests.search.fakes import (
    SMALL,
    FakePool,
    KilledError,
    dump,
    outcome,
    small,
)

NAMES = ["evonorm_b0", "bn_relu"]


def searched(folder, names=(), **changes):
    """A run as the command makes one; how many stages were requested."""
    settings = small(**{"trials": 25, **changes}, references=names)
    journal, pool = Journal(str(folder), settings.identity()), Counted()
    references.measure(journal, settings, pool)
    Driver(settings, journal).run(pool)
    if not settings.rejection:
        references.judge(journal, settings, pool)
    journal.close()
    return pool.waits


class Counted(FakePool):
    waits = 0

    def wait(self, seconds):
        self.waits += 1
        return super().wait(seconds)


def test_references_change_no_trial_and_are_measured_once(tmp_path):
    searched(tmp_path / "with", NAMES)
    searched(tmp_path / "without")
    lines = dump(tmp_path / "with")
    beside = [line for line in lines if 'INTO "uncharged"' in line]
    assert len(beside) == 2 * len(stages.names(small()))
    assert [line for line in lines if line not in beside] == dump(
        tmp_path / "without"
    )
    assert searched(tmp_path / "with", NAMES) == 0


def test_a_reference_whose_worker_died_is_measured_again(
    tmp_path, capsys, monkeypatch
):
    """Not a search's trial, of which it is the verdict."""
    monkeypatch.setattr(commands, "LocalPool", lambda settings: Counted())
    given = [f"--set={k}={v}" for k, v in SMALL.items()]
    given += ["--set=trials=1", "--set=references=[bn_relu]"]
    given += [f"--output={tmp_path}"]
    assert command.main(given) == 0
    whole = dump(tmp_path)
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute(
            "UPDATE uncharged SET result = '{}', reason = 'worker died' "
            "WHERE name = 'stability'"
        )
    assert command.main(["status", f"--output={tmp_path}"]) == 0
    assert "bn_relu, stability: worker died" in capsys.readouterr().out
    assert not report.read(str(tmp_path), "one").references
    assert command.main(given) == 0
    assert "worker died" not in capsys.readouterr().out
    assert sorted(dump(tmp_path)) == sorted(whole)
    assert len(report.read(str(tmp_path), "one").references) == 1


def test_a_reference_says_what_the_stages_found(tmp_path):
    searched(tmp_path, NAMES)
    run = report.read(str(tmp_path), "one")
    assert {r.name for r in run.references} == set(NAMES)
    for reference in run.references:
        text = graphs.NAMED[reference.name].text()
        found = [
            outcome(stages.Task(0, name, text))
            for name in stages.names(run.settings)
        ]
        failed = [o for o in found if stages.objection(o, run.settings)]
        assert bool(reference.reason) == bool(failed)
        by_name = {o.task.stage: o.result for o in found}
        for anchor, score in reference.scores.items():
            assert score == by_name[f"quality/{anchor}"]["accuracy"]
        assert reference.norm == by_name["stability"]["norm"]


def test_a_reference_is_trained_with_all_seeds(tmp_path):
    searched(tmp_path, ["bn_relu"], trials=1, confirmations=2)
    (reference,) = report.read(str(tmp_path), "one").references
    text = graphs.NAMED["bn_relu"].text()

    def accuracy(stage):
        return outcome(stages.Task(0, stage, text)).result["accuracy"]

    anchors = list(reference.scores)
    for kind, mean in zip(
        ("quality", "confirm1", "confirm2"), reference.seeds, strict=True
    ):
        found = [accuracy(f"{kind}/{anchor}") for anchor in anchors]
        assert mean == pytest.approx(sum(found) / len(found))
    assert reference.mean == pytest.approx(sum(reference.seeds) / 3)


def holds(graph, settings):
    """What rejection would say, from the made-up numbers themselves."""
    strict = small(fitness_steps=settings.fitness_steps)
    return not any(
        stages.objection(outcome(stages.Task(0, name, graph)), strict)
        for name in stages.names(strict)
        if not name.startswith("fitness/")
    )


def test_a_search_without_rejection_is_judged_like_the_others(
    tmp_path, undrawn, capsys
):
    settings = {"rejection": False, "algorithm": "random"}
    searched(tmp_path, trials=60, fitness_steps=500, **settings)
    run = report.read(str(tmp_path), "random")
    means = {}
    for trial in run.trials:
        found = stages.scores(trial.results, run.settings)
        means[trial.number] = sum(found.values()) / len(found)
    passing = {
        t.number: means[t.number]
        for t in run.trials
        if holds(t.graph, run.settings)
    }
    # The numbers are such that the judgement matters: on the way, not at
    # the end.
    raw = itertools.accumulate((means[t.number] for t in run.trials), max)
    assert any(a > p.best for a, p in zip(raw, run.points))
    assert run.ranked[0].mean == max(passing.values())
    assert [p.best for p in run.points][-1] == max(passing.values())
    best = 0.0
    for point, trial in zip(run.points, run.trials, strict=True):
        best = max(best, passing.get(trial.number, 0.0))
        assert point.best == best
    # And all that names the first one's verdict says that it failed.
    failed = next(t for t in run.trials if t.verdict == references.FAILED)
    assert failed.number not in passing
    told = f"{references.FAILED}.*(quality/|stability: )"
    (path,) = report.write(str(tmp_path))[1:]
    with open(path) as file:
        assert re.search(f"^{failed.number},.*{told}", file.read(), re.M)
    for command_ in ("show", "export"):
        given = [command_, str(failed.number), f"--output={tmp_path}"]
        assert command.main(given) == 0
    shown = capsys.readouterr().out
    assert re.search(f"^verdict   {told}", shown, re.M)
    exported = pathlib.Path(re.search(r"norm_act=(.*)", shown)[1]).read_text()
    assert re.search(told, exported, re.S)
    # Judging is not charged: three stages of half a second a trial.
    assert run.points[-1].cpu == pytest.approx(60 * 3 * 0.5)


def test_a_search_without_a_new_graph_is_judged_like_the_others(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(commands, "LocalPool", lambda settings: FakePool())
    monkeypatch.setattr(evolution, "_MOST_DRAWS", 500)
    given = ["--debug", "--set=nodes=1", "--set=rejection=false"]
    given += ["--set=algorithm=random", f"--output={tmp_path}"]
    assert command.main(given) == 0
    shown = capsys.readouterr().out
    assert "ended by no new graph" in shown
    assert "No new graph in 500 draws" in shown
    with contextlib.closing(Journal(str(tmp_path), None)) as journal:
        assert journal.uncharged()


def test_arms_by_command_killed_and_resumed(
    tmp_path, undrawn, monkeypatch, capsys
):
    lives = [90]  # The first command ends within its second arm.

    class Pool(FakePool):
        def wait(self, seconds):
            lives[0] -= 1
            if lives[0] < 0:
                raise KilledError
            return super().wait(seconds)

    monkeypatch.setattr(commands, "LocalPool", lambda settings: Pool())
    given = ["arms", f"--output={tmp_path}", "--debug", "--set=seconds=0"]
    given += ["--set=population=8", "--set=tournament=0.25"]
    given += ["--set=trials=1000", "--set=references=[bn_relu]"]
    assert ablation.main(given) == 2
    assert "equal CPU seconds" in capsys.readouterr().err
    given += ["--set=cpu=25"]
    with pytest.raises(KilledError):
        ablation.main(given)
    before = {
        arm: dump(tmp_path / arm) for arm in ("random", "random_rejection")
    }
    assert not (tmp_path / "average").exists()
    lives[0] = 10_000
    assert ablation.main(given) == 0
    assert dump(tmp_path / "random") == before["random"]
    stages_of = [x for x in before["random_rejection"] if '"stage"' in x]
    assert set(stages_of) <= set(dump(tmp_path / "random_rejection"))
    runs = report.find(str(tmp_path))
    assert [run.name for run in runs] == [arms.folder(a) for a in arms.ARMS]
    for run in runs:
        # More than 25 s, by the last stage and by trials under way at most.
        spent = sum(0.5 * len(trial.results) for trial in run.trials)
        assert 25 < spent <= 26
    assert [len(run.references) for run in runs] == [1, 0, 0, 0]
    page = (tmp_path / "report.html").read_text()
    shown = capsys.readouterr().out
    assert "ended by cpu=25" in shown and "ended early" not in shown
    for text in (*(run.name for run in runs), "bn_relu", "Funnel", "cpu=25"):
        assert re.search(rf">{text}<", page)
    given += ["--set=cpu=50", "--set=trials=1"]
    assert ablation.main(given) == 0
    shown = capsys.readouterr().out
    for arm in arms.ARMS:
        early = f"{arm} ended early, by trials=1, and not by cpu=50"
        assert early in shown
    assert "<td>trials=1</td>" in (tmp_path / "report.html").read_text()
