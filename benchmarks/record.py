"""Records a benchmark: the machine, and its rows as JSON."""

import json
import os
import pathlib
import platform
from typing import Any

import tensorflow as tf


def finish(rows: list[dict[str, Any]], path: pathlib.Path | None) -> None:
    """Prints the machine; writes rows and machine if a path is given."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "tensorflow": tf.__version__,
        "load_average": os.getloadavg()[0],
    }
    print(f"\n{machine}")
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"rows": rows, "machine": machine}
        path.write_text(json.dumps(document, indent=2) + "\n")
        print(f"written: {path}")
