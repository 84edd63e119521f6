"""Which devices a run gets, and how clusters that cannot be are refused."""

import json

import pytest
import tensorflow as tf

from training import strategy

WORKERS = {"worker": ["host0:2222", "host1:2222"]}
TASK = {"type": "worker", "index": 0}


def test_devices_are_set_up_once_however_often_they_are_requested():
    runtime = strategy.Runtime(cpu_replicas=2)
    one, other = strategy.build(runtime), strategy.build(runtime)
    # A second strategy over them would number its collectives like the
    # first, and each would receive the other's values.
    assert one is other is strategy.mirrored(("CPU:0", "CPU:1"))

    @tf.function
    def total(devices, value):
        def replica():
            context = tf.distribute.get_replica_context()
            number = tf.cast(context.replica_id_in_sync_group, tf.float32)
            return context.all_reduce("sum", value * (1.0 + number))

        return devices.experimental_local_results(devices.run(replica))

    for value, devices in enumerate((one, other, one), start=1):
        found = total(devices, tf.constant(float(value)))
        assert [float(each) for each in found] == [3.0 * value] * 2


def test_a_tpu_that_is_not_there_is_named():
    if tf.config.list_physical_devices("TPU"):
        pytest.skip("this machine has a TPU")
    with pytest.raises(ValueError, match="tpu='local'"):
        strategy.build(strategy.Runtime(tpu="local"))


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"cluster": ', "not JSON"),
        ("[1]", "JSON object"),
        ('{"cluster": null}', "cluster must map"),
        ('{"cluster": {"worker": "host0:2222"}}', "cluster must map"),
        ('{"cluster": {"worker": [1]}}', "cluster must map"),
        ('{"cluster": {"workers": ["host0:2222"]}}', "'workers'"),
        (json.dumps({"cluster": WORKERS}), "which process this is"),
        (
            json.dumps({"cluster": WORKERS, "task": {"type": "evaluator"}}),
            "task.type='evaluator' does not train",
        ),
        (
            json.dumps({"cluster": WORKERS, "task": {**TASK, "index": 2}}),
            "task.index must be 0 to 1",
        ),
        (
            json.dumps({"cluster": WORKERS, "task": {**TASK, "index": "0"}}),
            "task.index must be",
        ),
        (
            json.dumps({"cluster": WORKERS, "task": {**TASK, "type": "chief"}}),
            "cluster has no chief",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["auto", "multi_worker_mirrored"])
def test_a_cluster_that_cannot_be_is_named(text, message, kind, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    runtime = strategy.Runtime(distribution_strategy=kind)
    with pytest.raises(ValueError, match=message) as caught:
        strategy.build(runtime)
    caught.match("TF_CONFIG=")


@pytest.mark.parametrize(
    "runtime", [{"cpu_replicas": 2}, {"distribution_strategy": "one_device"}]
)
def test_workers_that_would_each_train_alone_are_refused(runtime, monkeypatch):
    text = json.dumps({"cluster": WORKERS, "task": TASK})
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="2 workers"):
        strategy.build(strategy.Runtime(**runtime))


@pytest.mark.parametrize(
    "text", ["", "{}", json.dumps({"cluster": {}, "task": {"type": "worker"}})]
)
def test_a_cluster_of_nobody_is_one_machine(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    devices = strategy.build(strategy.Runtime())
    assert not isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy)
