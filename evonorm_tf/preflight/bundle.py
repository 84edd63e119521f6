"""Writes a bundle: train steps that run on a machine without TensorFlow.

    FOLDER/run.py             pjrt.py, copied: needs jax and numpy only
    FOLDER/data.npz           images and labels, shared by the runs
    FOLDER/runs/NAME/
        train.mlir, eval.mlir the steps as StableHLO
        state.npz             initial values of the state, in order
        plan.json             what the steps are fed, what they renew
    FOLDER/results/NAME.json  what run.py found

Several runs (layers, seeds) go into one folder by writing them one after the
other; they must train on the same data.
"""

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from evonorm_tf.preflight import lowering, pjrt
from evonorm_tf.preflight.lowering import Held


@dataclasses.dataclass(frozen=True)
class Feed:
    """Where an input of a step comes from.

    Attributes:
      kind: "data", rows of an array of data.npz; "step", the step's number;
        "count", 1 for each example of the batch that is real and 0 for
        those that fill the last one up; "random", whole numbers below
        `below`, drawn anew from each step's number.
      shape: of a batch.
      dtype: as NumPy spells it.
      name: of the array, for "data".
      below: for "random".
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    name: str = ""
    below: int = 256

    @property
    def spec(self) -> tf.TensorSpec:
        """What the step is traced with."""
        return tf.TensorSpec(self.shape, self.dtype, self.name or None)


@dataclasses.dataclass(frozen=True)
class Step:
    """A function and what it is fed.

    Attributes:
      function: of one tensor a feed. A training step returns its loss first;
        an evaluation returns sums over the examples that count.
      feeds: in the order of its arguments.
      batch: examples a step.
      examples: size of the set in data.npz; 0 when nothing comes from it.
      outputs: names of what an evaluation returns.
    """

    function: Callable[..., Any]
    feeds: Sequence[Feed]
    batch: int
    examples: int = 0
    outputs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a bundle.

    Attributes:
      name: a folder name.
      train: the training step.
      steps: how many of them.
      seed: of the order of the examples.
      about: what it is, in words, repeated in its results.
      evaluate: the evaluation at the end, where there is one.
    """

    name: str
    train: Step
    steps: int
    seed: int
    about: str
    evaluate: Step | None = None


def write(
    folder: str | pathlib.Path,
    run: Run,
    data: dict[str, np.ndarray] | None = None,
) -> pathlib.Path:
    """Adds a run to a bundle, which is made when it is not there.

    Args:
      folder: the bundle.
      run: what to add; written anew where it is there already.
      data: arrays that its feeds name, [examples, ...].

    Returns:
      The run's folder.

    Raises:
      ValueError: a name that is no folder's, or another run's; other data
        than the bundle's; an evaluation that reads what the training does
        not keep.
    """
    folder = pathlib.Path(folder)
    _check_name(folder, run)
    module, kept = lowering.lower(
        run.train.function, *(feed.spec for feed in run.train.feeds)
    )
    plan = {
        "about": run.about,
        "steps": run.steps,
        "seed": run.seed,
        "train": _plan(run.train)
        | {
            "updates": module.updates,
            "state_types": [value.dtype for value in module.state],
            "state_names": [value.name for value in module.state],
        },
    }
    texts = {"train.mlir": module.text}
    if run.evaluate is not None:
        evaluation, read = lowering.lower(
            run.evaluate.function, *(feed.spec for feed in run.evaluate.feeds)
        )
        texts["eval.mlir"] = evaluation.text
        plan["eval"] = _plan(run.evaluate) | {"state": _places(read, kept)}
    values = {str(i): _portable(held) for i, held in enumerate(kept)}
    _share_data(folder / "data.npz", data or {})
    home = folder / "runs" / run.name
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(pjrt.__file__, folder / "run.py")
    for name, text in texts.items():
        (home / name).write_text(text, encoding="utf-8")
    np.savez_compressed(home / "state.npz", **values)
    (home / "plan.json").write_text(json.dumps(plan, indent=1))
    return home


def _check_name(folder: pathlib.Path, run: Run) -> None:
    if not re.fullmatch(r"[\w][\w.\-]*", run.name):
        raise ValueError(
            "A run's name is a folder's: letters, digits, '_', '-', '.'. "
            f"Received: name={run.name!r}"
        )
    path = folder / "runs" / run.name / "plan.json"
    held = json.loads(path.read_text())["about"] if path.exists() else run.about
    if held != run.about:
        raise ValueError(
            "The bundle has another run of that name. Received: "
            f"name={run.name!r}, about={run.about!r}, there is {held!r}"
        )


def _plan(step: Step) -> dict[str, Any]:
    plan = {
        "feeds": [dataclasses.asdict(feed) for feed in step.feeds],
        "batch": step.batch,
        "outputs": list(step.outputs),
    }
    return plan | ({"examples": step.examples} if step.examples else {})


def _places(read: list[Held], kept: list[Held]) -> list[int]:
    """Where the training's state holds what the evaluation reads."""
    places = {id(held.tensor): index for index, held in enumerate(kept)}
    missing = [h.value.name for h in read if id(h.tensor) not in places]
    if missing:
        raise ValueError(
            "The evaluation reads what the training step neither reads nor "
            f"keeps. Received: variables={missing}"
        )
    return [places[id(held.tensor)] for held in read]


def _share_data(path: pathlib.Path, data: dict[str, np.ndarray]) -> None:
    if not data:
        return
    if path.exists():
        with np.load(path) as held:
            same = set(held.files) == set(data) and all(
                np.array_equal(held[key], data[key]) for key in data
            )
        if not same:
            raise ValueError(
                "The bundle holds other data; the runs of one bundle share "
                f"theirs. Give this run a folder of its own. Received: {path}"
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **data)


def _portable(held: Held) -> np.ndarray:
    """A value in types that any numpy reads."""
    array = held.read().numpy()
    return array.view(np.uint16) if held.value.dtype == "bfloat16" else array


def collect(folder: str | pathlib.Path) -> list[dict[str, Any]]:
    """The results that run.py left in a bundle, in order of their names.

    Raises:
      ValueError: there is none.
    """
    home = pathlib.Path(folder) / pjrt.RESULTS
    files = sorted(home.glob("*.json")) if home.is_dir() else []
    if not files:
        raise ValueError(
            "There are no results; run `python run.py` in the bundle first. "
            f"Received: folder={str(folder)!r}"
        )
    return [json.loads(file.read_text()) for file in files]
