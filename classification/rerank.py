r"""Trains the best layers of a search on a larger task and ranks them.

    python -m classification.rerank --output=runs/search --top=3 \
        --experiment=cifar10_resnet
    python -m classification.rerank --output=runs/search --top=3 \
        --experiment=imagenet --head=--config_file=CONFIG

The paper re-ranks its top ten on held-out ImageNet images (Section 4,
arXiv:2004.02967). Here a part of the training images is held out for this: if
it were chosen on the test images, the best of ten would look better than it is.
Each layer is trained in a separate process, one after another, and can be
resumed; finished runs are not repeated.
"""

import argparse
import csv
import hashlib
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from evonorm_tf import files
from evonorm_tf.search import command_line, commands, history
from training import runs

_HEAD = "classification.train"
# The head's flags that only this command sets.
_OWN_FLAGS = ("debug", "nodebug", "experiment", "model_dir", "norm_act")


class Ranking(NamedTuple):
    """A layer's mean accuracy in the search, and in the re-ranking.

    Attributes:
      id: number of its trial.
      search: mean accuracy in the search.
      accuracy: of the head.
      command: of the head, without the interpreter.
      digest: of the layer file and the config files of the command; "" in rows
        of earlier versions.
    """

    id: int
    search: float
    accuracy: float
    command: str
    digest: str = ""


def run(
    layers: Sequence[tuple[int, float, str]],
    folder: str,
    experiment: str,
    extra: Sequence[str] = (),
    held_out: int = 10,
) -> list[Ranking]:
    """Trains every layer with the head; returns the best first.

    Args:
      layers: id, accuracy in the search, and file of every layer.
      folder: folder of the runs and rerank.csv.
      experiment: of the head.
      extra: further flags of the head, such as `--debug`.
      held_out: percentage of the training images for the ranking, the last
        ones; 0 to rank by the head's evaluation images, as for folders and
        TFRecords, which cannot be split. The digits, and therefore `--debug`,
        have no others.

    Raises:
      ValueError: if held_out is not a valid percentage, or the folder has a
        run of the same command with a layer or config file that has changed.
      RuntimeError: if a run of the head failed.
    """
    extra = _holding_out(held_out, folder, experiment, extra)
    path = files.join(folder, "rerank.csv")
    done = {(row.id, row.command): row for row in _read(path)}
    # A layer may also have been trained by another command.
    wanted = []
    for number, score, file in layers:
        model_dir = files.join(folder, str(number))
        command = [
            *(sys.executable, "-m", _HEAD, f"--experiment={experiment}"),
            *(f"--norm_act={file}", f"--model_dir={model_dir}", *extra),
        ]
        # Without the interpreter: another environment can run the same.
        text = shlex.join(command[1:])
        wanted.append((number, score, text))
        digest = _digest(file, extra)
        row = done.get((number, text))
        if row is not None and not row.digest:
            print(
                f"layer {number}: an earlier version recorded its accuracy "
                "without the content of its layer and config files; they are "
                "assumed to be unchanged"
            )
        if row is not None and row.digest in ("", digest):
            continue
        if row is not None and files.exists(model_dir):
            raise ValueError(
                f"Layer {number} was trained by the same command, but its "
                "layer file or a config file has changed since. Delete the "
                "run's folder to train it anew, or give the changed config "
                f"file another name. Received: model_dir={model_dir!r}"
            )
        print(f"layer {number}: python {text}", flush=True)
        code = subprocess.run(command).returncode
        if code:
            raise RuntimeError(
                f"The head failed with exit status {code} on layer {number}; "
                "its output is above. Finished runs are kept. "
                f"Received: experiment={experiment!r}"
            )
        accuracy = _accuracy(model_dir)
        done[number, text] = Ranking(number, score, accuracy, text, digest)
        _write(path, list(done.values()))
    rows = [done[n, text]._replace(search=score) for n, score, text in wanted]
    return sorted(rows, key=lambda row: -row.accuracy)


def _digest(layer: str, flags: Sequence[str]) -> str:
    """Returns a digest of the layer file and the config files of the flags."""
    paths, found = [layer], hashlib.sha256()
    for flag, following in zip(flags, [*flags[1:], ""]):
        name, equals, value = flag.partition("=")
        if name in ("--config_file", "-config_file"):
            paths.append(value if equals else following)
    for path in paths:
        content = files.read(path) if files.is_file(path) else b""
        found.update(hashlib.sha256(content).digest())
    return found.hexdigest()


def _holding_out(
    percent: int, folder: str, experiment: str, flags: Sequence[str]
) -> list[str]:
    """Returns the head's flags, with some training images held out."""
    if not 0 <= percent < 100:
        raise ValueError(
            "held_out must be a percentage of the training images, 0 to 99. "
            f"Received: held_out={percent}"
        )
    if not percent or experiment.startswith("digits") or "--debug" in flags:
        return list(flags)
    cut = 100 - percent
    splits = {
        "train_data": {"split": f"train[:{cut}%]"},
        "validation_data": {"split": f"train[{cut}%:]"},
    }
    # A config file, which explicit overrides in any form take precedence over.
    path = files.join(folder, f"held_out_{percent}.yaml")
    files.write(path, json.dumps({"task": splits}) + "\n")
    return [*flags, f"--config_file={path}"]


def _accuracy(model_dir: str) -> float:
    """Returns the validation accuracy after the last step of the run."""
    run = runs.Run(model_dir)
    found = run.metrics("eval")
    last = max((line["step"] for line in run.metrics()), default=0)
    if not found or found[-1]["step"] != last:
        raise RuntimeError(
            "The run was not evaluated after its last step; set its "
            "validation interval to a divisor of its steps. "
            f"Received: model_dir={model_dir!r}"
        )
    return float(found[-1]["accuracy"])


def _read(path: str) -> list[Ranking]:
    if not files.is_file(path):
        return []
    rows = csv.reader(io.StringIO(files.read_text(path), newline=""))
    return [
        Ranking(int(number), float(search), float(accuracy), *texts)
        for number, search, accuracy, *texts in list(rows)[1:]
    ]


def _write(path: str, rows: list[Ranking]) -> None:
    content = io.StringIO(newline="")
    csv.writer(content).writerows([Ranking._fields, *rows])
    files.write(path, content.getvalue())


def _refuse_own(flags: Sequence[str]) -> None:
    """Refuses flags of the head that this command sets or has itself."""
    for flag in flags:
        name = flag.lstrip("-").partition("=")[0]
        if flag.startswith("-") and name in _OWN_FLAGS:
            raise ValueError(
                f"--head cannot set {', '.join(_OWN_FLAGS)}. Use --debug and "
                "--experiment without --head; the layer and the folder come "
                f"from the search. Received: head={flag!r}"
            )


def _rerank(chosen: argparse.Namespace) -> None:
    _refuse_own(chosen.head)
    journal, settings = commands.opened(chosen.output)
    ranked = history.accepted(journal, journal.trials(), settings)
    ranked = ranked[: chosen.top]
    if not ranked:
        raise ValueError(
            "The search has accepted no layer yet. "
            f"Received: output={chosen.output!r}"
        )
    layers = [
        (
            r.trial.number,
            r.mean,
            commands.export_layer(r.trial, settings, chosen.output),
        )
        for r in ranked
    ]
    extra = [*chosen.head, *(["--debug"] if chosen.debug else [])]
    folder = files.join(chosen.output, "rerank")
    rows = run(layers, folder, chosen.experiment, extra, chosen.held_out)
    shown = Table("id", "search", chosen.experiment)
    for row in rows:
        shown.add_row(str(row.id), f"{row.search:.3f}", f"{row.accuracy:.3f}")
    Console().print(shown)


def main(given: list[str] | None = None) -> int:
    """Ranks layers as the flags say; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m classification.rerank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=_rerank)
    command_line.add_output(parser)
    parser.add_argument(
        "--top",
        type=command_line.count,
        default=10,
        help="number of layers, the best of the search",
    )
    parser.add_argument(
        "--experiment", default="cifar10_resnet", help="experiment of the head"
    )
    parser.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="FLAG",
        help="a further flag for the head; may be repeated",
    )
    parser.add_argument(
        "--held_out",
        type=int,
        default=10,
        metavar="PERCENT",
        help="percentage of the training images used for ranking; 0 for the "
        "validation images, as folders and TFRecords need",
    )
    parser.add_argument(
        "--debug", action="store_true", help="run the head with --debug"
    )
    return command_line.main(parser, given)


if __name__ == "__main__":
    sys.exit(main())
