"""The distribution strategy of a run; never silently a different one."""

import dataclasses
import functools
import json
import os
from typing import Any

import tensorflow as tf
from official.common import distribute_utils
from official.core import config_definitions
from official.modeling import performance

from training import config

# Roles of TF_CONFIG.
_TRAINING, _OTHERS = ("chief", "worker"), ("ps", "evaluator")
_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_KINDS = ("auto", "one_device", "mirrored", "multi_worker_mirrored", "tpu")


@dataclasses.dataclass
class Runtime(config_definitions.RuntimeConfig):
    """The Model Garden's runtime config, which detects devices.

    Attributes:
      distribution_strategy: "auto" uses the TPU of `--tpu`, or the workers of
        TF_CONFIG, or every GPU, or one CPU, in this order; or "one_device",
        "mirrored", "multi_worker_mirrored" (TF_CONFIG) or "tpu".
      cpu_replicas: if above 0, the number of logical CPUs of a
        MirroredStrategy, to try data parallelism without accelerators.
      accumulation_steps: number of micro-batches into which a replica's batch
        is split for one step of the optimizer.
      compile: what XLA compiles: "step", "layers", "off" or "auto", see
        `training.compilation`.
    """

    distribution_strategy: str = "auto"
    cpu_replicas: int = 0
    accumulation_steps: int = 1
    compile: str = "auto"


def set_precision(runtime: Runtime) -> None:
    """Sets the precision of the layers that are created from now on."""
    performance.set_mixed_precision_policy(
        runtime.mixed_precision_dtype or "float32"
    )


def build(runtime: Runtime) -> tf.distribute.Strategy:
    """Builds the strategy, or returns the existing one if only one can exist.

    Logical CPUs and several workers must be set up before TensorFlow's first
    operation, so call it before data are opened.

    Args:
      runtime: the resolved runtime config.

    Raises:
      ValueError: if the strategy is unknown, devices are missing, a number is
        negative, or logical CPUs are requested after TensorFlow has started.
    """
    least = {"num_gpus": 0, "cpu_replicas": 0}
    config.require_at_least(runtime, least, "runtime.")
    kind = runtime.distribution_strategy
    if kind not in _KINDS:
        raise ValueError(
            f"runtime.distribution_strategy must be one of {_KINDS}. "
            f"Received: distribution_strategy={kind!r}"
        )
    if kind == "tpu" or (kind == "auto" and runtime.tpu):
        return _tpu(runtime.tpu or "local")
    workers = _workers()
    several = kind in ("auto", "multi_worker_mirrored")
    if workers > 1 and (runtime.cpu_replicas or not several):
        raise ValueError(
            f"TF_CONFIG names {workers} workers, but with these settings each "
            "of them would train alone and write to the same model_dir. Unset "
            "TF_CONFIG, or use distribution_strategy=auto and cpu_replicas=0. "
            f"Received: distribution_strategy={kind!r}, "
            f"cpu_replicas={runtime.cpu_replicas}"
        )
    if runtime.cpu_replicas:
        return _mirrored_cpus(kind, runtime.cpu_replicas)
    if kind == "multi_worker_mirrored" or workers > 1:
        return _multi_worker()
    return _local(kind, runtime.num_gpus)


def _workers() -> int:
    """Returns how many processes of TF_CONFIG train."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _bad_cluster(f"it is not JSON ({error})", text) from error
    if not isinstance(found, dict):
        raise _bad_cluster("it must be a JSON object", text)
    cluster = found.get("cluster", {})
    if not isinstance(cluster, dict) or not all(
        isinstance(hosts, list) and all(isinstance(h, str) for h in hosts)
        for hosts in cluster.values()
    ):
        raise _bad_cluster("cluster must map roles to lists of hosts", text)
    unknown = sorted(set(cluster) - {*_TRAINING, *_OTHERS})
    if unknown:
        raise _bad_cluster(f"the role {unknown[0]!r} is unknown", text)
    count = sum(len(cluster.get(role, [])) for role in _TRAINING)
    if count:
        _require_task(found.get("task"), cluster, text)
    return count


def _require_task(task: Any, cluster: dict[str, list[str]], text: str) -> None:
    """Rejects a process that does not train."""
    if not isinstance(task, dict):
        raise _bad_cluster("task must say which process this is", text)
    role, index = task.get("type"), task.get("index")
    if role not in _TRAINING:
        raise _bad_cluster(
            f"a process of task.type={role!r} does not train; evaluate on one "
            "machine, with --mode=eval and without TF_CONFIG",
            text,
        )
    hosts = cluster.get(role, [])
    if not hosts:
        raise _bad_cluster(f"cluster has no {role}, as task.type says", text)
    # True is an int, and no index.
    if type(index) is not int or not 0 <= index < len(hosts):
        raise _bad_cluster(
            f"task.index must be 0 to {len(hosts) - 1}, an index in the list "
            f"cluster.{role}",
            text,
        )


def _bad_cluster(reason: str, text: str) -> ValueError:
    return ValueError(
        f"The environment variable TF_CONFIG cannot be used: {reason}. "
        f"Expected, for example, {_EXAMPLE}. Unset it to use one machine. "
        f"Received: TF_CONFIG={text!r}"
    )


@functools.cache
def _tpu(address: str) -> tf.distribute.Strategy:
    """Returns the TPU; setting it up again would erase its memory."""
    try:
        return distribute_utils.get_distribution_strategy(
            "tpu", tpu_address=address
        )
    # TensorFlow raises these if no TPU, or no network, responds.
    except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            "The TPU cannot be set up. Pass its name as --tpu, or 'local' on "
            "a machine that has one, or omit the flag. Received: "
            f"tpu={address!r}: {str(error).strip().splitlines()[0]}"
        ) from error


@functools.cache
def _multi_worker() -> tf.distribute.Strategy:
    """Returns the strategy for TF_CONFIG; waits until all workers run."""
    if not _workers():
        raise ValueError(
            "distribution_strategy=multi_worker_mirrored needs TF_CONFIG in "
            f"the environment of each worker, such as {_EXAMPLE}. "
            f"Received: TF_CONFIG={os.environ.get('TF_CONFIG')!r}"
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ValueError(
            "Several workers must be set up before TensorFlow's first "
            "operation: call training.strategy.build first."
        ) from error


def _local(kind: str, num_gpus: int) -> tf.distribute.Strategy:
    """Returns the strategy for the GPUs of this machine, or its CPU."""
    found = len(tf.config.list_logical_devices("GPU"))
    if num_gpus > found:
        raise ValueError(
            "runtime.num_gpus exceeds the number of GPUs that TensorFlow sees. "
            f"Expected at most {found}. Received: num_gpus={num_gpus}"
        )
    count = num_gpus or found
    if kind == "mirrored" and not count:
        raise ValueError(
            "distribution_strategy=mirrored needs GPUs, but TensorFlow sees "
            "none. Use runtime.cpu_replicas=2 to try it on logical CPUs, or "
            "distribution_strategy=auto."
        )
    if kind == "one_device" or count <= 1:
        device = "GPU:0" if count else "CPU:0"
        return tf.distribute.OneDeviceStrategy(device)
    return mirrored(tuple(f"GPU:{i}" for i in range(count)))


def _mirrored_cpus(kind: str, count: int) -> tf.distribute.Strategy:
    """Returns a MirroredStrategy over `count` logical CPUs."""
    if kind not in ("auto", "mirrored"):
        raise ValueError(
            "runtime.cpu_replicas requires distribution_strategy auto or "
            f"mirrored. Received: distribution_strategy={kind!r}, "
            f"cpu_replicas={count}"
        )
    cpu = tf.config.list_physical_devices("CPU")[0]
    wanted = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, wanted)
    except RuntimeError as error:
        # TensorFlow has started, which is fine if it has enough of them.
        found = len(tf.config.list_logical_devices("CPU"))
        if found < count:
            raise ValueError(
                "Logical CPUs must be set up before TensorFlow's first "
                f"operation; it has started with {found}. Received: "
                f"cpu_replicas={count}"
            ) from error
    return mirrored(tuple(f"CPU:{index}" for index in range(count)))


@functools.cache
def mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """Returns the one MirroredStrategy of these devices in this process.

    TensorFlow numbers the collectives of every strategy from the start, so two
    strategies over the same devices would confuse theirs.
    """
    return tf.distribute.MirroredStrategy(devices)


def describe(
    strategy: tf.distribute.Strategy, global_batch: int, accumulation: int = 1
) -> str:
    """Describes strategy, replicas, and the batch of each in one line.

    Args:
      strategy: distributes the run.
      global_batch: images per step.
      accumulation: micro-batches per step.

    Raises:
      ValueError: if the replicas do not divide the global batch, or the
        micro-batches do not divide that of a replica.
    """
    replicas = strategy.num_replicas_in_sync
    if global_batch % replicas:
        raise ValueError(
            "global_batch_size must be divisible by the replicas. Received: "
            f"global_batch_size={global_batch}, replicas={replicas}"
        )
    batch = global_batch // replicas
    if accumulation < 1 or batch % accumulation:
        raise ValueError(
            "runtime.accumulation_steps must be at least 1 and divide a "
            f"replica's batch, {batch}. Received: "
            f"accumulation_steps={accumulation}"
        )
    devices = strategy.extended.worker_devices
    kind = "CPU" if all("CPU" in device for device in devices) else "device"
    text = (
        f"{type(strategy).__name__}, {replicas} {kind} replica(s), batch "
        f"{global_batch} ({batch} a replica)"
    )
    if accumulation > 1:
        text += (
            f", {accumulation} micro-batches of {batch // accumulation} a step"
        )
    if kind == "CPU" and tf.config.list_physical_devices("GPU"):
        text += "; this machine has GPUs and this run does NOT use them"
    return text
