"""Measurements: what the figures in README and docs come from."""

import os

# Other packages' `tf.keras`: what they were written for, not Keras 3.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

from evonorm_tf import commands

commands.start()
