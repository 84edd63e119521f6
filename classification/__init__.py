"""Image classification: `python -m classification.train --help`."""
