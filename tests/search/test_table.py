"""The exhaustive table that is kept, and what the documents say of it."""

import dataclasses
import json
import pathlib

import pytest

from evonorm_tf import graphs
from evonorm_tf.search.ablation import arms, replay

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "runs" / "search-table"


@pytest.fixture(scope="module")
def table():
    return replay.read(str(FOLDER / replay.FILE))


@pytest.fixture(scope="module")
def known():
    return json.loads((FOLDER / "replay.json").read_text())


def test_it_holds_the_whole_space(table):
    """Every layer that an exhaustive search proposes, and nothing else."""
    asked = arms.simulate(table.settings, table.measure, len(table.rows) + 1)
    found = [table.find(trial.graph) for trial in asked]
    assert sorted(found) == list(range(len(table.rows)))


def test_its_layers_are_of_two_nodes_and_went_through_every_stage(table):
    stages = {"stability", *(f"quality/{a}" for a in table.settings.anchors)}
    for row in table.rows:
        # Those before the last two are filled up, and do not count.
        assert 1 <= len(graphs.parse(row["graph"]).live()) <= 2
        assert set(row["cpu"]) >= stages


def test_the_kept_replay_is_of_this_table(table, known):
    assert known["layers"] == len(table.rows)
    assert known["optimum"] == max(table.fitness)
    assert known["seeds"] == 200
    assert {row["arm"] for row in known["trials"]} == set(arms.ARMS)


def test_rejection_saves_no_trial(known):
    """Both random arms draw alike; by trials they cannot differ."""
    by_arm = {}
    for row in known["trials"]:
        figures = {k: v for k, v in row.items() if k != "arm"}
        by_arm.setdefault(row["arm"], []).append(figures)
    assert by_arm["random"] == by_arm["random+rejection"]


def test_a_replay_is_a_function_of_its_seed(table):
    table = replay.Table(
        dataclasses.replace(table.settings, population=40, tournament=0.1),
        table.rows,
    )
    one, other = replay.run(table, 1, 20), replay.run(table, 1, 20)
    assert one == other
