"""The Model Garden's RandAugment, MixUp and CutMix: augmenter "official".

For comparison, and not the default (`python -m benchmarks.input` has the
speeds). Its RandAugment mirrors the image into uncovered pixels and its
Contrast works on each channel alone, unlike Pillow's. Its CutMix labels an
image by the box before that is cut off at the border, of a width taken from
the image's height: the label's share is not that of the pixels.
"""

import functools

import tensorflow as tf
from official.vision.ops import augment

from classification import randaugment

_SIGNED = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}


def _apply(name, image, magnitude, sign, place):
    """One of the Model Garden's operations, with draws that are handed in."""
    if name == "Cutout":
        # Theirs draws its place itself, from the global generator.
        return randaugment.cutout(image, magnitude, sign, place)
    if name in _SIGNED:
        arguments = (sign * _strength(name, image, magnitude),)
    else:
        levels = augment.level_to_arg(cutout_const=0, translate_const=0)
        arguments = levels[name](magnitude)
    if name in augment.REPLACE_FUNCS:
        arguments = (*arguments, [128] * 3)
    return augment.NAME_TO_FUNC[name](image, *arguments)


def _strength(name: str, image: tf.Tensor, magnitude: float) -> float:
    share = magnitude / randaugment.MAX_MAGNITUDE
    if name == "Rotate":
        return share * 30.0
    if name.startswith("Shear"):
        return share * 0.3
    side = image.shape[0 if name == "TranslateY" else 1]
    return share * randaugment.TRANSLATE * side


OPERATIONS: dict[str, randaugment.Operation] = {
    name: functools.partial(_apply, name) for name in randaugment.OPERATIONS
}


def mix(
    images: tf.Tensor,
    labels: tf.Tensor,
    classes: int,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """As `mixing.mix`, but drawn from TensorFlow's global generator."""
    mixer = augment.MixupAndCutmix(
        classes, mixup_alpha, cutmix_alpha, label_smoothing=0.0
    )
    mixed, target = mixer(images, labels)
    target = tf.ensure_shape(target, [images.shape[0], classes])
    return tf.ensure_shape(mixed, images.shape), target
