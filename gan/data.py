"""Data sets of image synthesis, from the command line.

    python -m gan.data check --row=cifar10/biggan_small/evonorm_s0

looks at a data set before training or measuring.
"""

from gan import inspect_dataset
from training import commands

if __name__ == "__main__":
    commands.dispatch("gan.data", {"check": inspect_dataset})
