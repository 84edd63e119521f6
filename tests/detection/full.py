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


@functools.cache
def built(network, norm_act):
    """The model; its variables have shapes and no values."""
    with tf.Graph().as_default():
        return model.build(settings(network, norm_act))


@functools.cache
def counted(network, norm_act):
    """What it costs."""
    model_, params = built(network, norm_act), settings(network, norm_act)
    with model_.trainable_weights[0].graph.as_default():
        return model_cost.of(model_, params)
