"""Compiles StableHLO with the TPU's compiler, on a machine without a TPU.

libtpu contains the compiler, and jaxlib gives access to it (the `tpu` extra).
The compiler runs in a separate process, so that a crash in it becomes an error
here, its logs are separate, and TensorFlow and libtpu are never loaded
together.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

# Memory of one chip in GiB, from Google Cloud's page of each TPU version.
CHIP_MEMORY = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}
EXAMPLES = ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2")
# Neither libtpu nor JAX looks for a TPU, so none is locked.
_WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_FIGURES = (
    "flops",
    "bytes_accessed",
    "seconds_estimate",
    "argument_bytes",
    "output_bytes",
    "alias_bytes",
    "temporary_bytes",
    "program_bytes",
)


class CompilerError(RuntimeError):
    """The TPU compiler rejected a module or failed; has its message."""


def chip(topology: str) -> str:
    """Returns the chip's version in a topology's name, "v5e" in "v5e:2x2".

    Raises:
      ValueError: if the version or layout is invalid.
    """
    version, _, layout = topology.partition(":")
    if version not in CHIP_MEMORY or not re.fullmatch(r"\d+(x\d+)+", layout):
        raise ValueError(
            "A topology must be VERSION:LAYOUT with a version of "
            f"{sorted(CHIP_MEMORY)}, for example {', '.join(EXAMPLES)}. "
            f"Received: topology={topology!r}"
        )
    return version


def chips(topology: str) -> int:
    """Returns the number of chips of a topology."""
    chip(topology)
    count = 1
    for side in topology.partition(":")[2].split("x"):
        count *= int(side)
    return count


def compile_text(text: str, topology: str) -> dict[str, Any]:
    """Compiles a module for one chip of a topology; results are cached.

    Args:
      text: StableHLO, as returned by `lowering.clean`.
      topology: such as "v5e:2x2".

    Returns:
      `fits` and, if it is true: flops, bytes_accessed, seconds_estimate (the
      compiler's estimate), argument_bytes, output_bytes, alias_bytes (outputs
      that reuse the memory of arguments), temporary_bytes, program_bytes and
      compile_seconds. Otherwise `message`, from the compiler.

    Raises:
      CompilerError: if compiling fails for another reason than memory.
      ValueError: if the topology is unknown.
      ModuleNotFoundError: if the `tpu` extra is not installed.
    """
    chip(topology)
    path = _cache_path(text, topology)
    with contextlib.suppress(FileNotFoundError, ValueError):
        # One that was cut off, as by a full disk, is compiled again.
        return json.loads(path.read_text())
    result = _compile_apart(text, topology)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(result))
    temporary.replace(path)
    return result


def _cache_path(text: str, topology: str) -> pathlib.Path:
    try:
        versions = [
            importlib.metadata.version(name) for name in ("jaxlib", "libtpu")
        ]
    except importlib.metadata.PackageNotFoundError as error:
        from evonorm_tf import versions  # Not where this file is a script.

        raise versions.missing("Compiling for a TPU", error, "tpu") from error
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    whole = "\n".join([topology, *versions, text])
    key = hashlib.sha256(whole.encode()).hexdigest()
    return pathlib.Path(home, "evonorm_tf", "preflight", f"{key}.json")


def _compile_apart(text: str, topology: str) -> dict[str, Any]:
    """Runs `_compile_here` in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "step.mlir")
        answer = os.path.join(folder, "answer.json")
        pathlib.Path(source).write_text(text, encoding="utf-8")
        # By its path, because importing the package would load TensorFlow.
        command = [sys.executable, "-P", __file__, source, topology, answer]
        done = subprocess.run(
            command,
            env=os.environ | _WITHOUT_TPU,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CompilerError(
                f"The TPU compiler for {topology} ended with status "
                f"{done.returncode}: {_reason(done.stderr)}"
            )
        return json.loads(pathlib.Path(answer).read_text())


def _reason(log: str) -> str:
    """Returns the error at the end of a log, without its traceback."""
    _, traceback, after = log.strip().rpartition("Traceback (most recent")
    lines = after.splitlines()[1:]
    if not traceback:  # A crash.
        return "\n".join(log.strip().splitlines()[-15:])
    return " ".join(one for one in lines if not one.startswith(" "))


def _compile_here(text: str, topology: str) -> dict[str, Any]:
    """Compiles in this process; imports jax."""
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.interpreters import mlir
    from jaxlib import _jax
    from jaxlib.mlir import ir

    device = topologies.get_topology_desc(
        topology_name=topology, platform="tpu"
    ).devices[0]
    context = mlir.make_ir_context()
    options = _jax.CompileOptions()
    options.num_replicas = options.num_partitions = 1
    options.device_assignment = _jax.DeviceAssignment.create(np.array([[0]]))
    start = time.monotonic()
    with context:
        module = ir.Module.parse(text)
        devices = _jax.DeviceList((device,))
        try:
            program = device.client.compile(module, devices, options)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return {"fits": False, "message": str(error)}
    seconds = time.monotonic() - start
    return _figures(program) | {"fits": True, "compile_seconds": seconds}


def _figures(program: Any) -> dict[str, float]:
    cost = program.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    memory = program.get_compiled_memory_stats()
    estimate = cost["optimal_seconds"]
    values = (
        cost["flops"],
        cost["bytes accessed"],
        # -1 s stands for each operation without a cost estimate, and a step
        # takes less than a second, so whole seconds are added back.
        estimate + max(0, math.ceil(-estimate)),
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        memory.generated_code_size_in_bytes,
    )
    return dict(zip(_FIGURES, values, strict=True))


if __name__ == "__main__":  # Of `_compile_apart`.
    _source, _topology, _answer = sys.argv[1:]
    _text = pathlib.Path(_source).read_text(encoding="utf-8")
    _found = _compile_here(_text, _topology)
    pathlib.Path(_answer).write_text(json.dumps(_found))
