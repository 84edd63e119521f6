"""Commands for the datasets of image synthesis.

    python -m gan.data check --row=cifar10/biggan_small/evonorm_s0

checks a dataset before training or evaluation.
"""

from gan import inspect_dataset
from training import commands

if __name__ == "__main__":
    commands.dispatch("gan.data", {"check": inspect_dataset})
