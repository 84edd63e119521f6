"""A model as one function at inference, its NormAct layers folded."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from evonorm_tf.exporting import forms
from evonorm_tf.mixin import NormActMixin
from evonorm_tf.ops import plain


@contextlib.contextmanager
def inference_form(model: Any) -> Iterator[list[str]]:
    """Within it, a model's NormAct layers compute their folded form.

        with inference_form(model):
            function = tf.function(model).get_concrete_function(spec)

    Weights are read on entry and become constants of what is traced. For
    models of every kind, subclassed ones too, and of both Kerases: each layer
    object has its `call` exchanged until the block is left, and no class or
    module is touched. Training, gamma or beta given at call time and, but for
    BatchNorm and the plain affine, inputs that are not of rank 4 are computed
    as ever.

    Args:
      model: a built model, or any built Keras layer.

    Yields:
      The names of the NormAct layers that stay as they are.
    """
    found = {id(x): x for x in model._flatten_layers()}.values()
    layers = [x for x in found if isinstance(x, NormActMixin)]
    unbuilt = [x.name for x in layers if not x.built]
    if unbuilt:
        raise ValueError(
            "A layer without weights has nothing to fold: call the model on "
            f"an image first. Received: unbuilt layers {unbuilt}"
        )
    folded = [(x, forms.form(x)) for x in layers]
    left = [x.name for x, form in folded if form is None]
    folded = [(x, form) for x, form in folded if form is not None]
    # One of their own where a block stands within another one.
    before = [vars(layer).get("call") for layer, _ in folded]
    try:
        for layer, form in folded:
            layer.call = _call(layer, form)
        yield left
    finally:
        for (layer, _), call in zip(folded, before):
            if "call" in vars(layer):
                del layer.call
            if call is not None:
                layer.call = call


def _call(layer: Any, form: forms.Form) -> Callable[..., tf.Tensor]:
    usual = layer.call

    @tf.autograph.experimental.do_not_convert
    def call(inputs, gamma=None, beta=None, training=None):
        x = tf.convert_to_tensor(inputs)
        given = gamma is not None or beta is not None
        if training or given or not forms.takes(layer, x.shape.rank):
            return usual(inputs, gamma, beta, training)
        return tf.cast(form(plain.widen(x)), x.dtype)

    return call


def outputs_by_name(outputs: Any) -> dict[str, tf.Tensor]:
    """A model's outputs: their own names, or output_0, output_1, ..."""
    if isinstance(outputs, dict):
        return {str(name): value for name, value in outputs.items()}
    flat = tf.nest.flatten(outputs)
    return {f"output_{index}": value for index, value in enumerate(flat)}


def function(model: Any, spec: tf.TensorSpec, fold: bool = True) -> Any:
    """The model at inference: {"images": spec} to outputs by name.

    Args:
      model: a built model of one input.
      spec: of its input, [N, H, W, C].
      fold: in the folded form, rather than as the layers compute.

    Returns:
      A tf.function with one trace.
    """
    spec = tf.TensorSpec(spec.shape, spec.dtype, "images")

    @tf.function(input_signature=[spec], autograph=False)
    def serve(images):
        return outputs_by_name(model(images, training=False))

    with inference_form(model) if fold else contextlib.nullcontext():
        serve.get_concrete_function()
    return serve
