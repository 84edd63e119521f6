"""Runs a bundle of StableHLO steps on any device that JAX sees.

    python run.py                          # every run of this folder
    python run.py --runs evonorm_s0-0 --steps 100
    python run.py --time                   # a few steps, for their time only

Needs Python, numpy and jax; no TensorFlow, nothing else of evonorm_tf: this
file is copied into every bundle as run.py (bundle.py says what a bundle is).
The state stays on the device from step to step. Results: results/RUN.json,
written anew after each evaluation.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import statistics
import time
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent
RESULTS = "results"
WARM_UP, TIMED = 5, 30  # steps of --time


def connect() -> Any:
    """jax, set up for TensorFlow's types: step counters are int64."""
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


class Program:
    """A compiled module on one device."""

    def __init__(self, jax: Any, text: str):
        """Compiles.

        Args:
          jax: what `connect` returned.
          text: StableHLO.
        """
        from jax.interpreters import mlir
        from jaxlib import _jax
        from jaxlib.mlir import ir

        self._jax, self._device = jax, jax.devices()[0]
        options = _jax.CompileOptions()
        placed = np.array([[self._device.id]])
        options.device_assignment = _jax.DeviceAssignment.create(placed)
        start = time.monotonic()
        with mlir.make_ir_context():
            self._run = self._device.client.compile_and_load(
                ir.Module.parse(text),
                _jax.DeviceList((self._device,)),
                options,
            )
        self.compile_seconds = time.monotonic() - start

    def put(self, value: np.ndarray) -> Any:
        """An array on the device."""
        return self._jax.device_put(value, self._device)

    def __call__(self, arguments: list[Any]) -> list[Any]:
        """Runs it; arguments that results take the place of are gone."""
        return self._run.execute(arguments)


class Run:
    """One run of a bundle: a training step, an evaluation, their state."""

    def __init__(self, folder: pathlib.Path, name: str):
        """Reads a run.

        Args:
          folder: the bundle.
          name: the run's folder in `runs/`.
        """
        self.name, self._folder = name, folder / "runs" / name
        self.plan = json.loads((self._folder / "plan.json").read_text())
        with np.load(self._folder / "state.npz") as file:
            saved = [file[str(i)] for i in range(len(file.files))]
        types = self.plan["train"]["state_types"]
        # numpy has no bfloat16 of its own: such a value travels as its bits.
        self._state = [
            value.view(_bfloat16()) if kind == "bfloat16" else value
            for value, kind in zip(saved, types, strict=True)
        ]
        self._data: dict[str, np.ndarray] = {}
        path = folder / "data.npz"
        if path.exists():
            with np.load(path) as file:
                self._data = {key: file[key] for key in file.files}

    def _program(self, jax: Any, kind: str) -> Program:
        return Program(jax, (self._folder / f"{kind}.mlir").read_text())

    def feeds(self, kind: str, step: int) -> list[np.ndarray]:
        """What step number `step` of "train" or "eval" is fed."""
        plan = self.plan[kind]
        rows = None
        if "examples" in plan:
            rows = self._rows(plan, step, shuffle=kind == "train")
        return [self._feed(feed, step, rows) for feed in plan["feeds"]]

    def _feed(self, feed: dict, step: int, rows: Any) -> np.ndarray:
        if feed["kind"] == "step":
            return np.asarray(step, feed["dtype"])
        if feed["kind"] == "data":
            return self._data[feed["name"]][rows]
        if feed["kind"] == "count":  # examples of the batch that are real
            return np.asarray(rows >= 0).astype(feed["dtype"])
        generator = np.random.default_rng(step)
        value = generator.integers(0, feed["below"], feed["shape"])
        return value.astype(feed["dtype"])

    def _rows(self, plan: dict, step: int, shuffle: bool) -> np.ndarray:
        """Indices of a batch: a new order each epoch, no example left out."""
        examples, batch = plan["examples"], plan["batch"]
        first = step * batch
        if not shuffle:
            rows = np.arange(first, first + batch)
            return np.where(rows < examples, rows, -1)
        parts, taken = [], 0
        while taken < batch:
            epoch, start = divmod(first + taken, examples)
            order = np.random.default_rng([self.plan["seed"], epoch])
            part = order.permutation(examples)[start : start + batch - taken]
            parts.append(part)
            taken += len(part)
        return np.concatenate(parts)

    def train(self, jax: Any, steps: int) -> dict[str, Any]:
        """Trains and evaluates; returns the results so far.

        Args:
          jax: what `connect` returned.
          steps: optimizer steps.
        """
        program = self._program(jax, "train")
        state = [program.put(value) for value in self._state]
        losses, start = [], time.monotonic()
        for step in range(steps):
            loss, state = self._step(program, state, step)
            losses.append(loss)
        losses = [float(loss) for loss in losses]
        seconds = time.monotonic() - start
        results = _about(jax, self) | {
            "steps": steps,
            "compile_seconds": program.compile_seconds,
            "train_seconds": seconds,
            "losses": losses,
        }
        if "eval" in self.plan:
            results |= self._evaluate(jax, state)
        return results

    def _step(self, program: Program, state: list, step: int) -> tuple:
        """(loss, new state)"""
        plan = self.plan["train"]
        fed = [program.put(value) for value in self.feeds("train", step)]
        results = program(fed + state)
        count = len(results) - len(plan["updates"])
        state = list(state)
        for index, value in zip(plan["updates"], results[count:], strict=True):
            state[index] = value
        return results[0], state

    def _evaluate(self, jax: Any, state: list) -> dict[str, Any]:
        plan, program = self.plan["eval"], self._program(jax, "eval")
        kept = [state[index] for index in plan["state"]]
        totals = np.zeros(len(plan["outputs"]))
        batches = -(-plan["examples"] // plan["batch"])
        for step in range(batches):
            fed = [program.put(value) for value in self.feeds("eval", step)]
            totals += [float(np.sum(v)) for v in program(fed + kept)]
        means = totals / plan["examples"]
        named = zip(plan["outputs"], means.tolist(), strict=True)
        return {"evaluation": dict(named), "eval_examples": plan["examples"]}

    def time(self, jax: Any) -> dict[str, Any]:
        """Median seconds of a step, the same batch again and again."""
        program = self._program(jax, "train")
        plan = self.plan["train"]
        state = [program.put(value) for value in self._state]
        fed = self.feeds("train", 0)
        seconds = []
        for index in range(WARM_UP + TIMED):
            ready = [program.put(value) for value in fed]
            jax.block_until_ready(ready)
            start = time.perf_counter()
            results = program(ready + state)
            jax.block_until_ready(results)
            if index >= WARM_UP:
                seconds.append(time.perf_counter() - start)
            count = len(results) - len(plan["updates"])
            for place, value in zip(
                plan["updates"], results[count:], strict=True
            ):
                state[place] = value
        return _about(jax, self) | {
            "compile_seconds": program.compile_seconds,
            "step_seconds": statistics.median(seconds),
            "step_seconds_all": seconds,
        }


def _bfloat16() -> Any:
    import ml_dtypes  # jax brings it.

    return ml_dtypes.bfloat16


def _about(jax: Any, run: Run) -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "run": run.name,
        "about": run.plan["about"],
        "device": f"{device.platform}: {device.device_kind}",
        "jax": importlib.metadata.version("jax"),
        "batch": run.plan["train"].get("batch"),
    }


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="*", help="names; all when left out")
    parser.add_argument("--steps", type=int, help="instead of each plan's own")
    parser.add_argument("--time", action="store_true")
    given = parser.parse_args()
    known = sorted(path.name for path in (ROOT / "runs").iterdir())
    names = given.runs or known
    if unknown := sorted(set(names) - set(known)):
        raise SystemExit(f"No such runs: {unknown}. This bundle has {known}")
    jax = connect()
    (ROOT / RESULTS).mkdir(exist_ok=True)
    for name in names:
        run = Run(ROOT, name)
        if given.time:
            results, file = run.time(jax), f"{name}.time.json"
            said = f"{results['step_seconds'] * 1e3:.2f} ms a step"
        else:
            steps = given.steps or run.plan["steps"]
            results, file = run.train(jax, steps), f"{name}.json"
            said = f"{steps} steps, {results.get('evaluation', '')}"
        temporary = ROOT / RESULTS / f"{file}.tmp"
        temporary.write_text(json.dumps(results, indent=1))
        os.replace(temporary, ROOT / RESULTS / file)
        print(f"{name} on {results['device']}: {said}", flush=True)


if __name__ == "__main__":
    main()
