"""Replaces the normalization of existing models by EvoNorms.

    new = evonorm_tf.convert(model, "evonorm_s0")
    new, report = evonorm_tf.convert(model, "evonorm_b0", return_report=True)
    evonorm_tf.recalibrate(new, dataset, steps=100)

Works on functional and sequential models of either Keras, including nested
models. In reading order: `graph.py` (the layers and calls of a model),
`layer_patterns.py` and `activations.py` (what a layer is, and what follows
it), `sites.py` (what is to be replaced), `plan.py` (by what), `rebuild.py` (the
new model), `transfer.py` (its weights), `report.py`. `recalibration.py` is
independent of these.
"""

from evonorm_tf.conversion.api import convert
from evonorm_tf.conversion.recalibration import recalibrate, statistics
from evonorm_tf.conversion.report import Entry, Report
from evonorm_tf.conversion.sites import Site

__all__ = ["Entry", "Report", "Site", "convert", "recalibrate", "statistics"]
