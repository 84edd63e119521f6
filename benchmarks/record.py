"""Records a benchmark: the machine, and its rows as JSON."""

import json
import os
import pathlib
import platform
import re
import sys
from typing import Any

_CPUINFO = pathlib.Path("/proc/cpuinfo")


def finish(
    rows: list[dict[str, Any]],
    path: pathlib.Path | None,
    backend: str = "tensorflow",
) -> None:
    """Prints the machine; writes rows and machine where a path is given.

    Args:
      rows: what was measured.
      path: of the JSON file.
      backend: the imported module whose version the figures are of.
    """
    machine = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),  # That it may run on.
        backend: sys.modules[backend].__version__,
        "load_average": os.getloadavg()[0],
    }
    print(f"\n{machine}")
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"rows": rows, "machine": machine}
        path.write_text(json.dumps(document, indent=2) + "\n")
        print(f"written: {path}")


def processor() -> str:
    """The model of the processor, where the system tells."""
    text = _CPUINFO.read_text() if _CPUINFO.exists() else ""
    model = re.search(r"^model name\s*: (.+)$", text, re.M)
    return model.group(1) if model else platform.machine()
