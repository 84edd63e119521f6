"""Devices that a process may set up but once."""

from official.common import distribute_utils

from training import strategy


def test_a_tpu_is_set_up_once_however_often_it_is_asked_for(monkeypatch):
    made = []

    def connect(kind, tpu_address):
        made.append((kind, tpu_address))
        return object()

    monkeypatch.setattr(distribute_utils, "get_distribution_strategy", connect)
    asked = [
        strategy.Runtime(tpu="pod-test"),
        strategy.Runtime(distribution_strategy="tpu", tpu="pod-test"),
    ]
    one, other = map(strategy.build, asked)
    assert one is other
    assert made == [("tpu", "pod-test")]
    # What was made here is no TPU: nobody may find it later.
    strategy._tpu.cache_clear()
