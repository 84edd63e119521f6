"""The Model Garden's RandAugment, MixUp and CutMix: augmenter "official".

For comparison; not the default (`python -m benchmarks.input` measures the
speed). Its RandAugment mirrors the image into uncovered pixels, and its
Contrast works on each channel separately, unlike Pillow's. Its CutMix computes
the label from the box before it is clipped at the border, with a width taken
from the image's height, so the label's share is not that of the pixels.
"""

import functools

import tensorflow as tf
from official.vision.ops import augment

from classification import randaugment

_SIGNED = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}


def _apply(name, image, magnitude, sign, place):
    """Applies one of the Model Garden's operations with given draws."""
    if name == "Cutout":
        # The Model Garden's draws its position from the global generator.
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
    """Like `mixing.mix`, but with TensorFlow's global generator."""
    mixer = augment.MixupAndCutmix(
        classes, mixup_alpha, cutmix_alpha, label_smoothing=0.0
    )
    mixed, target = mixer(images, labels)
    target = tf.ensure_shape(target, [images.shape[0], classes])
    return tf.ensure_shape(mixed, images.shape), target
