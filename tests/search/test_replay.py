"""Replays on a table: the arms are real searches, the results looked up."""

import json
import os
import re

import pytest

from evonorm_tf import graphs
from evonorm_tf.search import evolution, history, space, stages
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.ablation import __main__ as command
from evonorm_tf.search.ablation import arms, replay
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.evolution import Evolution
from evonorm_tf.search.journal import Journal
from tests.search.fakes import FakePool, KilledError, dump, small

ONE_NODE = {"nodes": 1, "algorithm": "exhaustive"}


def exhausted(folder, lives=None, **changes):
    settings = small(**{"trials": 10_000, **ONE_NODE, **changes})
    journal = Journal(str(folder), settings.identity())
    try:
        Driver(settings, journal).run(FakePool(lives))
    finally:
        journal.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    exhausted(folder)
    assert command.main(["table", f"--output={folder}"]) == 0
    return folder


def test_every_layer_goes_through_every_stage_once(folder):
    settings = small(**ONE_NODE)
    journal = Journal(str(folder), None)
    trials = journal.trials()
    journal.close()
    for trial in trials:
        assert list(trial.results) == stages.names(settings)
    # Written from the definition: what one primitive of x alone can be.
    found = {graphs.formula(graphs.parse(t.graph)) for t in trials}
    assert {"max(x, 0)", "sigmoid(x)", "x*x", "signed_sqrt(x)"} <= found
    keys = {graphs.key(graphs.parse(t.graph)) for t in trials}
    assert len(keys) == len(trials)


def test_the_funnel_has_every_graph_also_after_the_last_layer(folder):
    journal = Journal(str(folder), None)
    trials, settings = journal.trials(), journal.settings()
    drawn, *rows = history.funnel(journal, trials, settings)
    assert journal.ended().reason == "no new graph"
    journal.close()
    everything = space.every_graph(space.get(settings.space, settings.nodes))
    assert drawn == ("drawn", 0, sum(1 for _ in everything))
    assert ("same training", len(trials)) in [(r[0], r[2]) for r in rows]


def test_a_table_that_was_killed_goes_on_as_itself(folder, tmp_path):
    for _ in range(3):
        with pytest.raises(KilledError):
            exhausted(tmp_path, lives=11)
    exhausted(tmp_path)
    assert dump(tmp_path) == dump(folder)


def test_the_table_knows_a_layer_under_every_expression(folder):
    table = replay.read(str(folder / replay.FILE))
    for number, row in enumerate(table.rows):
        assert table.find(graphs.parse(row["graph"])) == number
    relu = table.find(graphs.parse("n13=max(zero,x)"))
    # The same function, and the same training from v0 = 0.
    assert table.find(graphs.parse("n13=max(x,zero)")) == relu
    assert table.find(graphs.parse("n12=square(v0); n13=max(n12,x)")) == relu
    with pytest.raises(ValueError, match="does not have this layer"):
        table.find(graphs.NAMED["evonorm_s0"])


def test_fitness_is_the_mean_of_what_passes(folder):
    table = replay.read(str(folder / replay.FILE))
    assert (
        0 < sum(fitness > 0 for fitness in table.fitness) < len(table.fitness)
    )
    for row, fitness in zip(table.rows, table.fitness):
        found = [row["results"][f"quality/{a}"]["accuracy"]
                 for a in settings_lib.ANCHORS]  # fmt: skip
        passes = min(found) >= 0.2 and row["results"]["stability"]["norm"] < 1e8
        assert fitness == pytest.approx(sum(found) / 3 if passes else 0.0)


def test_arms_find_the_optimum_when_they_try_everything(folder, monkeypatch):
    table = replay.read(str(folder / replay.FILE))
    count = len(table.rows)
    found = replay.run(table, seeds=2, trials=count)
    curves = replay.by_trials(found)
    assert set(curves) == set(arms.ARMS)
    for seeds in curves.values():
        for curve in seeds:
            assert len(curve) == count
            assert curve == sorted(curve)
            assert curve[-1] == max(table.fitness)
    for row in replay.summary(table, curves, [1, count]):
        assert 0 <= row["low"] <= row["regret"] <= row["high"]
        if row["after"] == count:
            assert (row["regret"], row["top"]) == (0.0, 1.0)
    monkeypatch.setattr(evolution, "_MOST_DRAWS", 500)
    with pytest.raises(ValueError, match=r"at most --trials=\d.*arm='random'"):
        replay.run(table, seeds=1, trials=count + 1)


def test_equal_seconds_show_what_rejection_saves(folder):
    table = replay.read(str(folder / replay.FILE))
    found = replay.run(table, seeds=2, trials=8)
    # Random search proposes the same with and without rejection, which costs
    # or saves it time and no trial. Here every stage takes half a second.
    pair = [found[arm] for arm in ("random", "random+rejection")]
    for slow, fast in zip(*pair, strict=True):
        assert [s.best for s in slow] == [s.best for s in fast]
        assert [s.cpu for s in slow] == [1.5 * (i + 1) for i in range(8)]
        assert [s.cpu for s in fast] != [s.cpu for s in slow]
    at, values = replay.by_cpu(found, 4)
    assert at[-1] == min(s[-1].cpu for seeds in found.values() for s in seeds)
    for arm, seeds in values.items():
        for seed, curve in zip(found[arm], seeds, strict=True):
            assert curve == [
                max((s.best for s in seed if s.cpu <= limit), default=0.0)
                for limit in at
            ]


def test_a_table_counts_what_the_early_exit_would_take(folder):
    table = replay.read(str(folder / replay.FILE))
    for row in table.rows:
        for name, result in row["results"].items():
            if name.startswith("quality/"):
                result["early"] = 2.0
    assert replay.early_exits(table) == (0, 0)
    good = next(i for i, fitness in enumerate(table.fitness) if fitness)
    bad = next(i for i, fitness in enumerate(table.fitness) if not fitness)
    for number in (good, bad):
        table.rows[number]["results"]["quality/mobilenet"]["early"] = 2.31
    table.rows[bad]["results"]["quality/resnet"]["early"] = 2.31
    assert replay.early_exits(table) == (3, 1)


def test_an_arm_is_the_real_search_of_its_settings(folder, tmp_path):
    # The same proposals as a driver that computes, with one worker.
    table = replay.read(str(folder / replay.FILE))
    settings = arms.settings_of("average", table.settings)

    class TablePool(FakePool):
        def wait(self, seconds):
            task = self.tasks.pop(0)
            graph = graphs.parse(task.graph)
            proposal = evolution_proposal(graph)
            return [table.measure(proposal, task.stage)._replace(task=task)]

    def evolution_proposal(graph):
        return Evolution(settings).ask(0)._replace(graph=graph)

    trials = 12
    run = settings_lib.make(settings.identity(), {"trials": trials})
    journal = Journal(str(tmp_path), run.identity())
    Driver(run, journal).run(TablePool())
    real = [t.graph for t in sorted(journal.trials())]
    journal.close()
    simulated = arms.simulate(settings, table.measure, trials)
    assert [e.graph.text() for e in simulated] == real


def test_replay_prints_and_writes_its_bands(folder, capsys):
    given = ["replay", f"--output={folder}", "--seeds=3", "--trials=8"]
    assert command.main(given) == 0
    printed = capsys.readouterr().out
    content = json.loads((folder / "replay.json").read_text())
    assert (folder / "replay.png").exists()
    assert content["seeds"] == 3
    assert len(content["trials"]) == len(content["cpu"]) == 4 * 4
    for row in content["trials"] + content["cpu"]:
        assert re.search(
            rf"{re.escape(row['arm'])}.*{row['regret']:.4f}", printed
        )


def test_an_output_may_be_a_url(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = [f"--table={folder}/table.json", "--seeds=2", "--trials=4"]
    output = f"--output=file://{tmp_path}/[new] out"
    assert command.main(["replay", output, *asked]) == 0
    assert os.listdir(tmp_path) == ["[new] out"]
    made = sorted(os.listdir(tmp_path / "[new] out"))
    assert made == ["replay.json", "replay.png"]
    assert "replay.json" in capsys.readouterr().out


def test_tables_of_what_is_no_table_are_refused(tmp_path, folder, capsys):
    with pytest.raises(KilledError):
        exhausted(tmp_path, lives=4)
    assert command.main(["table", f"--output={tmp_path}"]) == 2
    assert "run the search to its end first" in capsys.readouterr().err
    assert command.main(["replay", f"--output={tmp_path}"]) == 2
    assert "There is no table" in capsys.readouterr().err
    exhausted(tmp_path, trials=5)
    assert command.main(["table", f"--output={tmp_path}"]) == 2
    assert "5 trials, 0 of them unfinished, ended by trials=5" in (
        capsys.readouterr().err
    )
    table = tmp_path / "other.json"
    for text in ("", "[1]", "{}", '{"settings": {}, "rows": [1]}'):
        table.write_text(text)
        asked = ["replay", f"--output={tmp_path}", f"--table={table}"]
        assert command.main(asked) == 2
        assert "The file is not a table" in capsys.readouterr().err
    with pytest.raises(ValueError, match="arm='best'"):
        arms.settings_of("best", small())


@pytest.mark.parametrize("arm", arms.ARMS)
def test_an_arm_is_what_its_name_says_whatever_is_set(arm):
    settings = small(
        rejection=arm == "random", algorithm="exhaustive", criterion="average"
    )
    made = arms.settings_of(arm, settings)
    assert made.rejection == (arm != "random")
    assert made.algorithm == (
        "random" if arm.startswith("random") else "evolution"
    )
    if made.algorithm == "evolution":
        assert made.criterion == arm


@pytest.mark.parametrize("verb", ["arms", "replay"])
@pytest.mark.parametrize(
    "text", ["rejection=false", "algorithm=random", "criterion=pareto"]
)
def test_what_defines_the_arms_is_not_set(verb, text, tmp_path, capsys):
    given = [verb, f"--output={tmp_path}", f"--set={text}"]
    assert command.main([*given, "--set=population=8"]) == 2
    shown = capsys.readouterr().err
    assert "define the arms" in shown and f"Received: set='{text}'" in shown
    assert not os.listdir(tmp_path)


def test_a_limit_that_is_set_decides_the_fitness(folder, tmp_path):
    table = replay.read(str(folder / replay.FILE))
    strict = {"quality": 0.5, "stability": 5.0}
    for name, value in strict.items():
        made = table.replaced({name: value})
        for before, after, row in zip(
            table.fitness, made.fitness, table.rows, strict=True
        ):
            found = row["results"]
            passes = before > 0 and (
                min(
                    found[f"quality/{a}"]["accuracy"]
                    for a in made.settings.anchors
                )
                >= value
                if name == "quality"
                else found["stability"]["norm"] <= value
            )
            assert after == (before if passes else 0.0)
        assert made.fitness != table.fitness
    given = ["replay", f"--table={folder}/table.json", "--seeds=2"]
    given += ["--trials=4", "--set=quality=0.5", f"--output={tmp_path}"]
    assert command.main(given) == 0
    content = json.loads((tmp_path / "replay.json").read_text())
    assert content["optimum"] == max(table.replaced({"quality": 0.5}).fitness)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fitness_steps=200", r"can set only population.*fitness_steps=200"),
        ("nodes=2", "can set only.*Received: nodes=2"),
        ("seed=3", "can set only.*Received: seed=3"),
        ("early_exit=false", "can set only.*Received: early_exit=False"),
        ("trials=5", "can set only.*Received: trials=5"),
        ("stability=2.0e+9", r"at most that of the table, 1e\+08"),
        ("populaton=5", "Did you mean population"),
        ("population=many", "population.*an int"),
    ],
)
def test_a_replay_sets_only_what_the_table_leaves_open(
    folder, tmp_path, capsys, text, message
):
    given = ["replay", f"--table={folder}/table.json", f"--set={text}"]
    assert command.main([*given, f"--output={tmp_path}"]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not os.listdir(tmp_path)


def test_a_table_with_a_longer_fitness_is_replayed_by_it(tmp_path):
    exhausted(tmp_path, fitness_steps=500)
    table = replay.collect(str(tmp_path))
    settings = arms.settings_of("average", table.settings)
    assert "fitness/resnet" in stages.names(settings)
    row = table.rows[0]
    row["cpu"]["fitness/resnet"] = 7.0
    proposal = Evolution(settings).ask(0)
    proposal = proposal._replace(graph=graphs.parse(row["graph"]))
    found = table.measure(proposal, "fitness/resnet")
    assert found.result == row["results"]["fitness/resnet"]
    assert found.result != row["results"]["quality/resnet"]
    assert found.cpu == 7.0
    count = len(table.rows)
    for seeds in replay.by_trials(replay.run(table, 1, count)).values():
        assert seeds[0][-1] == max(table.fitness)
    ended = arms.simulate(settings, table.measure, count)
    scores = sorted(trial.score for trial in ended)
    assert scores == pytest.approx(sorted(table.fitness))


def test_a_table_without_the_tests_of_rejection_is_refused(tmp_path, capsys):
    exhausted(tmp_path, rejection=False, fitness_steps=500)
    assert command.main(["table", f"--output={tmp_path}"]) == 2
    assert "needs the results of quality" in capsys.readouterr().err
