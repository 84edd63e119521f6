"""Image classification: `python -m classification.train --help`."""

from evonorm_tf import commands

commands.start(
    {
        "classification.check": "classification.data check",
        "classification.examine": "classification.data check",
    }
)
