"""Shared by the exports of all heads: temporary files, checks, metadata.

A head writes its formats to a temporary folder and compares them with the model
there. A difference raises an error, and the output folder is not changed.
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
    """Provides a temporary folder to export to, and metadata to fill in.

    If there is no error, its files replace those of the same names in
    `output_dir`, with `export.json` last. That file has the origin of the
    weights, their metrics, the run's config and facts, and what was added.

    Args:
      run: the run whose model is exported.
      output_dir: destination; created if needed.

    Yields:
      The folder, and a dictionary that is added to `export.json`.
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
    """Defines --model_dir, --output_dir and --checkpoint."""
    flags.DEFINE_string("model_dir", None, "Folder of the run.")
    flags.DEFINE_string("output_dir", None, "Folder for the exported files.")
    flags.DEFINE_string("checkpoint", "latest", "latest, best or a path.")
    flags.mark_flag_as_required("output_dir")
