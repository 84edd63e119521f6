"""The report: its numbers are the journal's, its page needs no other file."""

import base64
import csv
import dataclasses
import itertools
import re

import pytest

from evonorm_tf import graphs
from evonorm_tf.search import __main__ as command
from evonorm_tf.search import charts, history, report
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.journal import Journal, Trial
from evonorm_tf.search.references import Reference
from tests.search.fakes import FakePool, small


def searched(folder, **changes):
    settings = small(**changes)
    journal = Journal(str(folder), settings.identity())
    Driver(settings, journal).run(FakePool())
    journal.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    searched(folder / "evolution", trials=80)
    searched(folder / "random", algorithm="random", trials=30)
    return folder


def test_the_page_has_every_arm_and_needs_no_file(folder, capsys):
    assert command.main(["report", f"--output={folder}"]) == 0
    written = capsys.readouterr().out.split()
    assert [path.rsplit("/", 1)[1] for path in written] == [
        *("report.html", "random.csv", "evolution.csv"),
    ]
    page = (folder / "report.html").read_text()
    sources = re.findall(r'src="([^"]*)"', page)
    # Best and diversity; of each arm the funnel, fronts and the winner.
    assert len(sources) == 2 + 2 * 3
    for source in sources:
        head, data = source.split(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    for run in report.find(str(folder)):
        best = run.ranked[0].trial
        assert f"The best, trial {best.number}<" in page
        assert graphs.parse(best.graph).text() in page


def test_what_a_judgement_takes_out_was_accepted_all_the_same(folder, undrawn):
    """The head of a run's section and the table of runs count alike."""
    run = report.read(str(folder / "random"), "random")
    without = dataclasses.replace(run, ranked=run.ranked[1:])
    assert 1 < len(run.ranked) == without.accepted
    page = report._page([without])
    assert f"<td>{len(run.ranked)}</td>" in page
    assert f"{len(run.ranked)} accepted, " in page


def test_the_table_has_every_trial(folder, undrawn):
    report.write(str(folder))
    run = report.read(str(folder / "evolution"), "evolution")
    with open(folder / "evolution.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(run.trials) == 80
    for row, trial in zip(rows, run.trials):
        assert int(row["id"]) == trial.number
        assert row["graph"] == trial.graph
        assert row["verdict"] == trial.verdict
        found = trial.results.get("quality/resnet", {}).get("accuracy", "")
        assert row["quality/resnet accuracy"] == str(found)


def test_searches_that_do_not_compare_are_refused(tmp_path, undrawn, capsys):
    for name, changes in (
        ("a", {}),
        ("b", {"algorithm": "random", "rejection": False, "seed": 1}),
        ("c", {"validation": 250, "fitness_steps": 50}),
    ):
        settings = small(**changes)
        Journal(str(tmp_path / name), settings.identity()).close()
        status = command.main(["report", f"--output={tmp_path}"])
        assert status == (2 if name == "c" else 0)
    assert re.search(
        "a and c with fitness_steps=100 and 50, validation=300 and 250",
        capsys.readouterr().err,
    )


def test_references_of_another_seed_keep_their_own_line(folder, undrawn):
    run = report.read(str(folder / "random"), "random")
    scores = dict.fromkeys(run.settings.anchors, 0.25)
    one = Reference("bn_relu", scores, (0.25,), 1.0, "")
    runs = [
        dataclasses.replace(run, name=name, references=[reference])
        for name, reference in (
            ("a", one),
            ("b", one),
            ("c", one._replace(norm=2.0)),
        )
    ]
    page = report._page(runs)
    assert re.findall("<td>(bn_relu.*?)</td>", page) == [
        *("bn_relu", "bn_relu, c"),
    ]


def test_every_arm_has_a_line_of_its_own():
    points = [history.Point(1, 1.0, 0.5, 1.0)]
    arms = {str(number): points for number in range(25)}
    for figure in (charts.best(arms), charts.lineages(arms)):
        lines = figure.axes[0].get_lines()
        assert [line.get_label() for line in lines] == list(arms)
        looks = [(line.get_color(), line.get_linestyle()) for line in lines]
        assert len(set(looks)) == 24


def test_progress_is_the_best_so_far_and_adds_up(folder):
    run = report.read(str(folder / "evolution"), "evolution")
    best = [point.best for point in run.points]
    assert best == sorted(best)
    assert best[-1] == run.ranked[0].mean
    stages = sum(len(trial.results) for trial in run.trials)
    assert run.points[-1].cpu == pytest.approx(0.5 * stages)
    assert [p.trainings for p in run.points] == list(range(1, 81))
    lineages = [p.lineages for p in run.points if p.best]
    assert all(0 < share <= 1 for share in lineages)
    # Random search has as many lineages as layers.
    other = report.read(str(folder / "random"), "random")
    assert {p.lineages for p in other.points if p.best} == {1.0}


def test_a_genealogy_goes_back_to_a_random_graph(folder):
    run = report.read(str(folder / "evolution"), "evolution")
    child = max(
        run.trials, key=lambda t: len(history.genealogy(run.trials, t.number))
    )
    line = history.genealogy(run.trials, child.number)
    assert len(line) > 1
    assert line[0].parent is None
    assert line[-1] == child
    for parent, trial in itertools.pairwise(line):
        assert trial.parent == parent.number
    assert history.founders(run.trials)[child.number] == line[0].number


def test_founders_do_not_depend_on_the_order_of_endings():
    trials = [
        Trial(2, "", 1, {}, None, "", {}),
        Trial(1, "", 0, {}, None, "", {}),
        Trial(0, "", None, {}, None, "", {}),
    ]
    assert history.founders(trials) == {0: 0, 1: 0, 2: 0}


def test_an_empty_search_and_no_search(tmp_path, capsys):
    settings = small()
    Journal(str(tmp_path / "empty"), settings.identity()).close()
    report.write(str(tmp_path / "empty"))
    page = (tmp_path / "empty" / "report.html").read_text()
    assert "No layer was accepted" in page
    assert command.main(["report", f"--output={tmp_path / 'none'}"]) == 2
    assert "no search in that folder" in capsys.readouterr().err
