"""Commands for the datasets of detection: conversion and checks.

python -m detection.data convert --help
python -m detection.data check --help
"""

from detection import convert, inspect_dataset
from training import commands

if __name__ == "__main__":
    commands.dispatch(
        "detection.data", {"convert": convert, "check": inspect_dataset}
    )
