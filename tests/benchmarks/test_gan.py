"""What the image-synthesis benchmark measures, on a clock of its own."""

import pytest

from benchmarks import gan


def test_every_layer_is_timed_in_turn_and_over_the_same_rounds_baseline(
    monkeypatch,
):
    clock, taken = [0.0], []
    cost = {"bn_relu": 2.0, "evonorm_b0": 3.0}

    def step(layer, width, batch):
        assert (width, batch) == (16, 32)

        def run():
            taken.append(layer)
            # The machine is slower in each round: a ratio must not see it.
            clock[0] += cost[layer] * (1 + (len(taken) - 1) // 3)

        return run

    monkeypatch.setattr(gan, "step", step)
    monkeypatch.setattr(gan.time, "perf_counter", lambda: clock[0])
    rows = gan.measure(["bn_relu", "evonorm_b0"], 16, 32, rounds=3)
    assert [row["layer"] for row in rows] == [
        *("bn_relu", gan.AGAIN, "evonorm_b0")
    ]
    # Two of each to warm up, then three rounds of all.
    forth = ["bn_relu", "bn_relu", "evonorm_b0"]
    assert taken[6:] == [*forth, *reversed(forth), *forth]
    assert [row["ratio_to_bn_relu"] for row in rows] == [1.0, 1.0, 1.5]
    assert rows[2]["lowest"] == rows[2]["highest"] == 1.5
    assert "evonorm_b0" in gan.table(rows)


def test_a_distance_says_how_many_samples_it_saw(monkeypatch):
    monkeypatch.setattr(gan, "_FEATURES", 8)
    (row,) = gan.distance(1700)
    assert row["samples"] == 1500  # Whole batches of 500.
    assert row["features"] == 8
    assert row["total_s"] >= row["distance_s"] >= 0


@pytest.mark.slow
def test_a_step_is_one_of_each_network(monkeypatch):
    """Both optimizers and the step's count move, on real networks."""
    made = []

    class Recorded(gan.trainer.Trainer):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(gan.trainer, "Trainer", Recorded)
    timed = gan.step("bn_relu", 8, 2)
    timed()
    (trainer,) = made
    generator, discriminator = trainer._optimizers
    assert int(trainer.global_step) == 1
    assert int(generator.iterations) == int(discriminator.iterations) == 1
    assert trainer._task.model.norm_act.name == "bn_relu"
