"""Data sets for detection: conversion to records, and a look at them.

python -m detection.data convert --help
python -m detection.data check --help
"""

import sys

from detection import check, convert
from training import commands

_COMMANDS = {"convert": convert.main, "check": check.main}


def _main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in _COMMANDS:
        sys.exit(__doc__)
    with commands.messages():
        sys.exit(_COMMANDS[sys.argv[1]](sys.argv[2:]))


if __name__ == "__main__":
    _main()
