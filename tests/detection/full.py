"""Mask R-CNN at full size, built as a graph: no weight is allocated."""

import functools

import tensorflow as tf

from detection import experiment, model, model_cost

# SpineNets at the image sizes that the Model Garden prints numbers for.
SIDES = {"spinenet96": 1024, "spinenet143": 1280, "spinenet190": 1280}


def settings(network, norm_act):
    """A model of the recipe, or of SpineNet's."""
    params = experiment.coco_maskrcnn().task.model
    params.network, params.norm_act.name = network, norm_act
    if network.startswith("spinenet"):
        side = SIDES.get(network, 640)
        params.input_size = [side, side, 3]
        params.min_level, params.max_level = 3, 7
    return params


def built(network, norm_act):
    """The model; its variables have shapes and no values."""
    return _made(network, norm_act)[0]


def counted(network, norm_act):
    """What it costs."""
    return _made(network, norm_act)[1]


@functools.cache
def _made(network, norm_act):
    # Counted at once: in a graph, tf_keras changes the base of its classes
    # until the next eager layer is made, and its layers cannot be called then.
    params = settings(network, norm_act)
    with tf.Graph().as_default():
        model_ = model.build(params)
        return model_, model_cost.of(model_, params)
