"""Will it compile on a TPU, will it fit, how fast will it be: without one.

    lowering.py  a train step as StableHLO
    tpu.py       StableHLO through libtpu's compiler, in a process of its own
    report.py    with the layer, with the baseline, with neither; largest batch
    bundle.py    a folder that trains where there is JAX and no TensorFlow
    pjrt.py      what runs in such a folder
    steps.py     the train step of a compiled tf_keras model

A head makes its step and calls this, never the reverse:

    step = preflight.keras_step(model)
    module, _ = preflight.lower(step, images, labels)
    preflight.compile_text(module.text, "v5e:2x2")
"""

from evonorm_tf.preflight.bundle import Feed, Run, Step, collect, write
from evonorm_tf.preflight.lowering import Module, Value, lower
from evonorm_tf.preflight.report import Request, as_text, run
from evonorm_tf.preflight.steps import keras_step
from evonorm_tf.preflight.tpu import CompilerError, compile_text

__all__ = [
    "CompilerError",
    "Feed",
    "Module",
    "Request",
    "Run",
    "Step",
    "Value",
    "as_text",
    "collect",
    "compile_text",
    "keras_step",
    "lower",
    "run",
    "write",
]
