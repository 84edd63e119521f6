"""CIFAR-10 at full length on one accelerator: Keras on JAX.

The recipe is that of configs/classification/cifar10_small_batch.yaml except for
its length, the same for all layers: SGD with Nesterov momentum 0.9, rate 0.1
for 128 images, a cosine after 0.2 epochs of warm-up, weight decay 1e-4 on all
weights except those of norm-act layers, random crops of images padded by 4, and
flips. All images stay on the device; an epoch is one compiled loop.

These networks are too small to fill a large device: launching their kernels
takes longer than running them. Every layer of every study is therefore trained
in a process of its own, many at a time, and `seconds` is no measure of a layer.
"""

import argparse
import concurrent.futures
import io
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

import evonorm_tf
from benchmarks import jax_steps
from evonorm_tf import layers

GROUPS = 8
RATE, DECAY, MOMENTUM, WARMUP, PAD = 0.1, 1e-4, 0.9, 0.2, 4
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], np.float32) * 255
EVALUATIONS = 10  # about as many for each training
_DONE, _STOPPED = "exit status 0", "stopped, no time left"


def read(path: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Reads images [N, 32, 32, 3], uint8, and labels of both splits."""
    from PIL import Image

    stored, found = np.load(path), {}
    for split in ("train", "test"):
        data = stored[f"{split}_bytes"].tobytes()
        ends = [0, *stored[f"{split}_ends"].tolist()]
        files = [data[a:b] for a, b in itertools.pairwise(ends)]

        def decode(file: bytes) -> np.ndarray:
            return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))

        with concurrent.futures.ThreadPoolExecutor() as pool:
            images = np.stack(list(pool.map(decode, files)))
        found[split] = images, stored[f"{split}_labels"].astype(np.int32)
    return found


def drawn(examples: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns noise with a learnable trace of its label, for tests on a CPU."""
    rng = np.random.default_rng(0)
    found = {}
    for split in ("train", "test"):
        labels = rng.integers(0, 10, examples).astype(np.int32)
        noise = rng.integers(0, 200, (examples, 32, 32, 3))
        images = noise + 5 * labels[:, None, None, None]
        found[split] = images.astype(np.uint8), labels
    return found


def augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """Crops padded images randomly and flips half of them, [N, H, W, C]."""
    side = images.shape[1]
    padded = jnp.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    where, mirrored = jax.random.split(key)
    corners = jax.random.randint(where, (len(images), 2), 0, 2 * PAD + 1)

    def crop(image, corner):
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (side, side, 3))

    cut = jax.vmap(crop)(padded, corners)
    flip = jax.random.bernoulli(mirrored, shape=(len(images), 1, 1, 1))
    return jnp.where(flip, cut[:, :, ::-1], cut)


class Training:
    """The training of one layer, compiled once for all seeds.

    Args:
      name: catalog name.
      study: one of `studies` in benchmarks/gpu.py.
      data: images and labels of both splits, on the device.
    """

    def __init__(self, name: str, study: dict, data: dict[str, Any]):
        self.name, self._study, self._data = name, study, data
        self._batch = study["batch"]
        self.steps = len(data["train"][1]) // self._batch
        values, self._model, self._optimizer = self._make(seed=0)
        self._loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        )
        owned = {
            id(weight)
            for layer in self._model._flatten_layers()
            if isinstance(layer, layers.NormAct)
            for weight in layer.weights
        }
        self._decayed = [
            id(v) not in owned for v in self._model.trainable_variables
        ]
        key = jax.random.key(0)
        epoch = jax.jit(self._epoch, donate_argnums=0)
        self._run = epoch.lower(values, key, *data["train"]).compile()
        correct = jax.jit(self._correct)
        self._test = correct.lower(*values[:2], *data["test"]).compile()

    def _make(self, seed: int) -> tuple[list, Any, Any]:
        keras.utils.set_random_seed(seed)
        groups = {"groups": GROUPS}
        model = evonorm_tf.create_model(
            self._study["network"],
            jax_steps.norm_act(self.name, **groups),
            num_classes=10,
            width=self._study["width"],
        )
        total = self._study["epochs"] * self.steps
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, total - round(WARMUP * self.steps)),
            warmup_target=RATE * self._batch / 128,
            warmup_steps=max(1, round(WARMUP * self.steps)),
        )
        optimizer = keras.optimizers.SGD(rate, MOMENTUM, nesterov=True)
        optimizer.build(model.trainable_variables)
        values = [
            [jnp.array(v.value) for v in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                optimizer.variables,
            )
        ]
        return values, model, optimizer

    def _objective(self, weights, state, images, labels):
        images = (images.astype(jnp.float32) - MEAN) / STD
        logits, state = self._model.stateless_call(
            weights, state, images, training=True
        )
        squares = [jnp.sum(w * w) for w, d in zip(weights, self._decayed) if d]
        return self._loss(labels, logits) + DECAY / 2 * sum(squares), state

    def _epoch(self, values, key, images, labels):
        order, key = jax.random.split(key)
        count = self.steps * self._batch
        order = jax.random.permutation(order, len(labels))[:count]
        order = order.reshape(self.steps, self._batch)

        def step(carry, one):
            (weights, state, momenta), (chosen, key) = carry, one
            (loss, state), gradients = jax.value_and_grad(
                self._objective, has_aux=True
            )(weights, state, augment(key, images[chosen]), labels[chosen])
            weights, momenta = self._optimizer.stateless_apply(
                momenta, gradients, weights
            )
            return [weights, state, momenta], loss

        keys = jax.random.split(key, self.steps)
        values, losses = jax.lax.scan(step, values, (order, keys))
        return values, jnp.mean(losses)

    def _correct(self, weights, state, images, labels):
        parts = max(1, len(labels) // 500)
        split = images.reshape(parts, -1, *images.shape[1:])

        def part(count, one):
            images, labels = one
            images = (images.astype(jnp.float32) - MEAN) / STD
            logits, _ = self._model.stateless_call(
                weights, state, images, training=False
            )
            return count + jnp.sum(jnp.argmax(logits, -1) == labels), None

        zero = jnp.zeros([], jnp.int32)
        found, _ = jax.lax.scan(part, zero, (split, labels.reshape(parts, -1)))
        return found

    def run(self, seed: int) -> dict[str, Any]:
        """Trains once; returns (epoch, test accuracy in %, training loss)."""
        values, _, _ = self._make(seed)
        start, curve = time.time(), []
        epochs = self._study["epochs"]
        often = max(1, epochs // EVALUATIONS)
        for epoch in range(1, epochs + 1):
            key = jax.random.fold_in(jax.random.key(seed), epoch)
            values, loss = self._run(values, key, *self._data["train"])
            if epoch % often and epoch < epochs:
                continue
            correct = self._test(*values[:2], *self._data["test"])
            accuracy = 100 * int(correct) / len(self._data["test"][1])
            what = f"{self.name}, seed {seed}, epoch {epoch}"
            loss = jax_steps.assert_finite(loss, what)
            curve.append([epoch, round(accuracy, 2), round(loss, 4)])
        return {
            "layer": self.name,
            "seed": seed,
            "accuracy": curve[-1][1],
            "training_loss": curve[-1][2],
            "seconds": round(time.time() - start, 1),
            "curve": curve,
        }


def about(study: dict) -> dict[str, Any]:
    """Returns what distinguishes a study, and its rows, from others."""
    return {k: study[k] for k in ("network", "width", "epochs", "batch")}


def label(study: dict) -> str:
    """Returns the name of a study."""
    return "{network}-w{width}-e{epochs}-b{batch}".format(**study)


def missing(
    studies: list[dict], only: str, rows: list[dict[str, Any]]
) -> list[dict]:
    """Returns the studies without what is done.

    Args:
      studies: see benchmarks/gpu.py.
      only: a pattern that STUDY/LAYER has to contain.
      rows: of earlier runs.

    Raises:
      ValueError: `only` is no regular expression, or matches nothing.
    """
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise ValueError(
            f"`only` must be a regular expression. Received: only={only!r}, "
            f"which is not valid: {error}"
        ) from error
    names = [f"{label(s)}/{layer}" for s in studies for layer in s["layers"]]
    if not any(map(pattern.search, names)):
        raise ValueError(
            f"`only` must match one of {names}. Received: only={only!r}"
        )
    # The first rows that were published have no width.
    rows = [{"width": 1.0} | row for row in rows]
    done = {(label(row), row["layer"], row["seed"]) for row in rows}
    found = []
    for study in studies:
        name, layers = label(study), {}
        for layer, seeds in study["layers"].items():
            seeds = [s for s in seeds if (name, layer, s) not in done]
            if seeds and pattern.search(f"{name}/{layer}"):
                layers[layer] = seeds
        found.append(study | {"layers": layers})
    return found


def measure(
    sizes: dict, path: pathlib.Path | None, rows: Any, deadline: float
) -> None:
    """Part `cifar`; arguments as given by benchmarks/gpu.py."""
    data = read(path) if path else drawn(sizes["examples"])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        flat = {f"{k}_images": images for k, (images, _) in data.items()}
        flat |= {f"{k}_labels": labels for k, (_, labels) in data.items()}
        np.savez(folder / "data.npz", **flat)
        waiting = [
            _Job(study, layer, folder)
            for study in sizes["studies"]
            for layer in study["layers"]
        ]
        running: list[_Job] = []
        failed: list[str] = []
        try:
            while waiting or running:
                while waiting and len(running) < sizes["jobs"]:
                    running.append(waiting.pop(0).start())
                time.sleep(0.5)
                late = time.time() > deadline
                for job in list(running):
                    done = job.finished(stop=late)
                    for row in job.rows():
                        rows.add(
                            **row,
                            data=path.name if path else "drawn",
                            jobs=sizes["jobs"],
                        )
                    if done:
                        running.remove(job)
                        failed += [job.name] * (done not in (_DONE, _STOPPED))
                        print(f"{job.name}: {done}", flush=True)
                if late:
                    for job in waiting:
                        print(f"{job.name}: not started", flush=True)
                    break
        finally:  # Ctrl-C, or a disk that is full.
            for job in running:
                job.finished(stop=True)
    if failed:
        sys.exit(f"These trainings failed, see above: {failed}")


class _Job:
    """The process that trains one layer with all seeds of a study."""

    def __init__(self, study: dict, layer: str, folder: pathlib.Path):
        self.name = f"{label(study)}/{layer}"
        self._output = folder / f"{label(study)}-{layer}.jsonl"
        self._read = 0
        self._command = [sys.executable, "-m", "benchmarks.jax_cifar"]
        self._command += ["--study", json.dumps(study), "--layer", layer]
        self._command += ["--data", str(folder / "data.npz")]
        self._command += ["--output", str(self._output)]

    def start(self) -> "_Job":
        """Starts the process, which takes only the memory that it needs."""
        self._output.touch()
        environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self._process = subprocess.Popen(
            self._command, env=os.environ | environment
        )
        return self

    def rows(self) -> list[dict[str, Any]]:
        """Returns the rows that are new since the last call."""
        lines = self._output.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        new, self._read = whole[self._read :], len(whole)
        return [json.loads(line) for line in new]

    def finished(self, stop: bool) -> str:
        """How the process ended, "" while it runs; with `stop`, ends it."""
        if stop and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            return _STOPPED
        code = self._process.poll()
        return "" if code is None else f"exit status {code}"


def main() -> None:
    """Trains one layer with all seeds of a study; writes a line for each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--study", type=json.loads, required=True)
    parser.add_argument("--layer", required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    given = parser.parse_args()
    stored = np.load(given.data)
    data = {
        split: tuple(
            jnp.asarray(stored[f"{split}_{what}"])
            for what in ("images", "labels")
        )
        for split in ("train", "test")
    }
    start = time.time()
    training = Training(given.layer, given.study, data)
    compiling = round(time.time() - start, 1)
    for seed in given.study["layers"][given.layer]:
        row = training.run(seed) | about(given.study)
        row["compiling_seconds"] = compiling
        with given.output.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
