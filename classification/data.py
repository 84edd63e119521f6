"""Commands for the datasets of classification.

    python -m classification.data check --dataset=cifar10 --tfds_data_dir=DIR

checks a dataset before training.
"""

from classification import inspect_dataset
from training import commands

if __name__ == "__main__":
    commands.dispatch("classification.data", {"check": inspect_dataset})
