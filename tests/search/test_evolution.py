"""Tournaments, ageing, duplicates, and that a run replays as itself."""

import collections

import pytest

from evonorm_tf import graphs
from evonorm_tf.search import evolution, history, space, stages
from evonorm_tf.search.driver import Driver
from evonorm_tf.search.evolution import Evolution, Member, front
from evonorm_tf.search.journal import Journal
from tests.search.fakes import FakePool, KilledError, dump, small


def run(folder, settings, lives=None, slots=1):
    journal = Journal(str(folder), settings.identity())
    try:
        driver = Driver(settings, journal)
        driver.run(FakePool(lives, slots))
        return driver
    finally:
        journal.close()


def test_the_front_is_what_nobody_beats():
    scores = [(0.9, 0.1), (0.1, 0.9), (0.5, 0.5), (0.4, 0.5), (0.9, 0.1)]
    members = [Member(i, None, s) for i, s in enumerate(scores)]
    assert [m.trial for m in front(members)] == [0, 1, 2, 4]


def test_the_front_of_many_is_that_of_the_definition():
    rng = space.generator(9, 0)
    members = [
        Member(i, None, tuple(int(rng.random() * 40) / 39 for _ in range(3)))
        for i in range(300)
    ]
    wanted = [
        one
        for one in members
        if not any(
            other.scores != one.scores
            and all(a >= b for a, b in zip(other.scores, one.scores))
            for other in members
        )
    ]
    assert front(members) == wanted
    assert 3 < len(wanted) < 100


def grown(**changes):
    """An evolution whose population is full of the named graphs."""
    settings = small(fresh=0.0, anchors=["resnet", "mobilenet"], **changes)
    state = Evolution(settings)
    for i, graph in enumerate(graphs.NAMED.values()):
        state.tell(i, graph, {"resnet": i / 10, "mobilenet": 0.5 - i / 10})
    return state


def test_the_oldest_leave_however_good():
    state = grown(population=4)
    assert [m.trial for m in state.population] == [5, 6, 7, 8]


@pytest.mark.parametrize("criterion", ["average", "pareto"])
def test_a_tournament_prefers_its_winner(criterion):
    settings = small(fresh=0.0, criterion=criterion, anchors=["resnet"])
    parents = collections.Counter()
    for trial in range(400):
        state = Evolution(settings)
        for i, graph in enumerate(list(graphs.NAMED.values())[:8]):
            state.tell(i, graph, {"resnet": i / 10})
        parents[state._parent(space.generator(1, trial)).trial] += 1
    # Two of eight, the better wins: 15/64 for the best, 1/64 for the worst.
    assert 65 < parents[7] < 125
    assert parents[0] < 20


def test_pareto_takes_any_of_the_front_and_no_other():
    state = grown(criterion="pareto", population=9, tournament=1.0)
    beaten = Member(99, graphs.NAMED["bn_relu"], (0.0, 0.0))
    state.population.append(beaten)
    parents = {state._parent(space.generator(2, t)).trial for t in range(300)}
    assert 99 not in parents
    assert len(parents) > 5


def test_a_child_is_its_parent_with_one_node_changed():
    state = grown(criterion="average")
    names = list(graphs.NAMED.values())
    for trial in range(100, 130):
        proposal = state.ask(trial)
        parent = names[proposal.parent]
        pairs = zip(proposal.graph.nodes, parent.nodes)
        assert sum(a != b for a, b in pairs) == 1


def test_nothing_is_proposed_twice(tmp_path):
    settings = small(trials=120)
    run(tmp_path, settings)
    journal = Journal(str(tmp_path), None)
    keys = [graphs.key(graphs.parse(t.graph)) for t in journal.trials()]
    assert len(keys) == len(set(keys)) == 120
    rejected = collections.Counter()
    for trial in journal.trials():
        rejected.update(trial.rejected)
    # Children of few parents: without the barrier these would be trained.
    assert rejected["duplicate"] > 10
    journal.close()


def test_random_search_has_no_parents_and_strict_has_no_filters():
    state = Evolution(small(algorithm="random"))
    state.tell(0, graphs.NAMED["bn_relu"], dict.fromkeys(
        ("resnet", "mobilenet", "efficientnet"), 0.5))  # fmt: skip
    assert all(state.ask(t).parent is None for t in range(20))
    strict = Evolution(small(filters=False, dedup=False))
    assert all(strict.ask(t).rejected == {} for t in range(20))


def test_a_used_up_space_says_so(monkeypatch):
    monkeypatch.setattr(evolution, "_MOST_DRAWS", 50)
    state = Evolution(small())
    monkeypatch.setattr(state, "_reject", lambda graph: "duplicate")
    with pytest.raises(RuntimeError, match=r"No new graph.*trial=3"):
        state.ask(3)


def test_a_graph_that_an_exhaustive_search_has_not_is_refused():
    state = Evolution(small(algorithm="exhaustive", nodes=1))
    stranger = graphs.NAMED["evonorm_s0"]
    with pytest.raises(ValueError, match=r"would not propose there.*trial=2"):
        state.claim(2, stranger)


def lives_of(folder, settings, slots):
    """Runs to the end in lives of five stages; the lines after each."""
    while True:
        try:
            run(folder, settings, lives=5, slots=slots)
        except KilledError:
            yield dump(folder)
        else:
            return


@pytest.mark.parametrize("algorithm", ["evolution", "random"])
def test_a_run_killed_anywhere_goes_on_as_itself(tmp_path, algorithm):
    settings = small(algorithm=algorithm)
    run(tmp_path / "whole", settings)
    kills = len(list(lives_of(tmp_path / "broken", settings, slots=1)))
    assert kills > 5
    wanted = dump(tmp_path / "whole")
    assert sum("'accepted'" in line for line in wanted) > 4
    assert dump(tmp_path / "broken") == wanted


@pytest.mark.parametrize(
    ("changes", "wanted", "score"),
    [
        (
            {"anchors": ["resnet", "mobilenet"]},
            ["quality/resnet", "stability", "quality/mobilenet"],
            "quality",
        ),
        ({"anchors": ["resnet"]}, ["quality/resnet", "stability"], "quality"),
        (
            {"anchors": ["resnet"], "fitness_steps": 500},
            ["quality/resnet", "stability", "fitness/resnet"],
            "fitness",
        ),
        (
            {"anchors": ["resnet"], "rejection": False},
            ["fitness/resnet"],
            "fitness",
        ),
    ],
)
def test_stages_and_the_score_they_end_in(tmp_path, changes, wanted, score):
    settings = small(trials=20, **changes)
    assert stages.names(settings) == wanted
    driver = run(tmp_path, settings)
    journal = Journal(str(tmp_path), None)
    results = {t.number: t.results for t in journal.trials()}
    assert driver.evolution.population
    for member in driver.evolution.population:
        found = results[member.trial]
        assert list(found) == wanted
        assert member.scores[0] == found[f"{score}/resnet"]["accuracy"]
    journal.close()


def test_only_what_would_be_the_best_is_trained_with_further_seeds(tmp_path):
    settings = small(
        anchors=["resnet", "mobilenet"], fitness_steps=500, confirmations=2
    )
    driver = run(tmp_path, settings)
    journal = Journal(str(tmp_path), None)
    assert journal.settings().identity() == settings.identity()
    best, confirmed, scores = 0.0, 0, {}
    for trial in journal.trials():
        if trial.verdict != "accepted":
            assert not any("confirm" in name for name in trial.results)
            continue
        by_seed = [
            [trial.results[f"{kind}/{a}"]["accuracy"] for a in settings.anchors]
            for kind in ("fitness", "confirm1", "confirm2")
            if f"{kind}/resnet" in trial.results
        ]
        leads = sum(by_seed[0]) / 2 > best
        assert len(by_seed) == (3 if leads else 1)
        scores[trial.number] = [sum(s) / len(s) for s in zip(*by_seed)]
        best = max(best, sum(scores[trial.number]) / 2)
        confirmed += leads
    # Some lead with one seed and not with three, or the rule has no effect.
    assert 2 < confirmed < len(scores)
    for member in driver.evolution.population:
        assert member.scores == pytest.approx(scores[member.trial])
    points = history.progress(journal, journal.trials(), settings)
    assert points[-1].best == pytest.approx(best)
    journal.close()


def test_a_killed_search_with_further_seeds_goes_on_as_itself(tmp_path):
    settings = small(trials=25, confirmations=1)
    run(tmp_path / "whole", settings)
    list(lives_of(tmp_path / "broken", settings, slots=1))
    assert dump(tmp_path / "broken") == dump(tmp_path / "whole")


def test_a_journal_from_before_further_seeds_goes_on():
    assert "confirmations" not in small().identity()
    assert small(confirmations=1).identity()["confirmations"] == 1


def test_with_two_workers_no_finished_stage_is_lost(tmp_path):
    # The order of endings is the workers', so the runs differ; what was
    # written stays.
    settings = small()
    before = []
    for lines in [*lives_of(tmp_path, settings, slots=2), dump(tmp_path)]:
        stages = [line for line in lines if 'INTO "stage"' in line]
        assert stages[: len(before)] == before
        before = stages
    journal = Journal(str(tmp_path), None)
    trials = journal.trials()
    assert [t.number for t in sorted(trials)] == list(range(40))
    assert all(trial.verdict for trial in trials)
    journal.close()
