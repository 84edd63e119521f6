"""What the exports of all heads share: written aside, described, replaced.

A head writes its formats into a temporary folder and compares them with the
model there; what differs raises, and the output folder keeps what it had.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from absl import flags

from evonorm_tf import files
from training import saved

ABOUT = "export.json"


@contextlib.contextmanager
def staging(
    run: saved.Restored, output_dir: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A temporary folder to export into, and what is said about the export.

    Without an error the files replace those of the same names in
    `output_dir`, with `export.json` last: where the weights come from, the
    metrics they had, the run's config and facts, and what was added.

    Args:
      run: whose model is exported.
      output_dir: where to; made if need be.

    Yields:
      The folder, and a dictionary for `export.json` to add to.
    """
    about = {
        "checkpoint": run.path,
        "step": run.step,
        "weights": "averaged" if run.averaged else "as trained",
        "metrics": run.metrics,
    }
    with files.staging(output_dir, last=ABOUT) as folder:
        yield folder, about
        about |= {"run": run.run.facts(), "config": run.params.as_dict()}
        text = json.dumps(about, indent=2) + "\n"
        files.write(files.join(folder, ABOUT), text)


def define_flags() -> None:
    """--model_dir, --output_dir and --checkpoint."""
    flags.DEFINE_string("model_dir", None, "The run's directory.")
    flags.DEFINE_string("output_dir", None, "Where the export goes.")
    flags.DEFINE_string("checkpoint", "latest", "latest, best or a path.")
    flags.mark_flag_as_required("output_dir")
