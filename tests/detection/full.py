"""Mask R-CNN at full size, built as a graph: no weight is allocated."""

import functools

import tensorflow as tf

from detection import experiment, model, model_cost
from tests.nets.small import untraced

# SpineNets at the image sizes that the Model Garden prints numbers for.
SIDES = {"spinenet96": 1024, "spinenet143": 1280, "spinenet190": 1280}


def settings(network, norm_act, max_depth=0):
    """A model of the recipe, or of SpineNet's."""
    params = experiment.coco_maskrcnn().task.model
    params.network, params.norm_act.name = network, norm_act
    params.max_depth = max_depth
    if network.startswith("spinenet"):
        side = SIDES.get(network, 640)
        params.input_size = [side, side, 3]
        params.min_level, params.max_level = 3, 7
    return params


@functools.cache
def built(network, norm_act, max_depth=0):
    """The model; its variables have shapes and no values.

    It cannot be called: in a graph, tf_keras changes the base of its classes
    until the next eager layer is made.
    """
    with tf.Graph().as_default(), untraced():
        return model.build(settings(network, norm_act, max_depth))


@functools.cache
def counted(network, norm_act):
    """What it costs; that the layers cost nothing is tested by itself."""
    with untraced():
        return model_cost.count(settings(network, norm_act))
