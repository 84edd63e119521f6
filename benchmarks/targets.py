"""Time, processor time and memory of `make test` and of the demo.

    python -m benchmarks.targets [test demo] [--json FILE]

Memory is the largest sum over the command's processes at one moment, sampled
every five seconds; what processes share is counted once. Run it on an idle
machine.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import psutil
import tensorflow  # noqa: F401 (its version is recorded)

from benchmarks import record

# A sample takes a tenth of a second of a core beside gigabytes of processes.
INTERVAL = 5.0
COMMANDS = {
    "test": ["make", "test"],
    # An existing run would be resumed.
    "demo": [sys.executable, "-m", "classification.demo", "--model_dir={}"],
}


def memory(process: psutil.Process) -> int:
    """Returns the bytes of a process and its descendants at this moment."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:  # It has ended.
            continue
    return total


def measure(name: str, command: list[str]) -> dict[str, Any]:
    """Runs a command to its end.

    Args:
      name: stands in the row.
      command: the arguments; an argument "{}" stands for an empty folder.

    Returns:
      The row: minutes of time and of processors, and the largest memory in GB.

    Raises:
      subprocess.CalledProcessError: if it fails.
    """
    before, largest = os.times(), 0
    with tempfile.TemporaryDirectory() as folder:
        given = [argument.format(folder) for argument in command]
        start = time.perf_counter()
        running = subprocess.Popen(given)
        watched = psutil.Process(running.pid)
        while running.poll() is None:
            time.sleep(INTERVAL)
            try:
                largest = max(largest, memory(watched))
            except psutil.NoSuchProcess:
                break
        code = running.wait()
        wall = time.perf_counter() - start
    if code:
        raise subprocess.CalledProcessError(code, given)
    after = os.times()
    spent = after.children_user - before.children_user
    spent += after.children_system - before.children_system
    return {
        "command": name,
        "minutes": wall / 60,
        "processor_minutes": spent / 60,
        "gigabytes": largest / 1e9,
    }


def main() -> None:
    """Measures, prints and writes; keeps the rows of other commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=[*COMMANDS])
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    given = parser.parse_args()
    unknown = set(given.names) - set(COMMANDS)
    if unknown:
        parser.error(
            f"unknown command. Expected one of {[*COMMANDS]}. "
            f"Received: {sorted(unknown)}"
        )
    rows = [measure(name, COMMANDS[name]) for name in given.names]
    print(json.dumps(rows, indent=2))
    if given.json and given.json.exists():
        old = json.loads(given.json.read_text())["rows"]
        rows = [r for r in old if r["command"] not in given.names] + rows
    record.finish(rows, given.json)


if __name__ == "__main__":
    main()
