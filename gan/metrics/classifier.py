"""A small classifier of a run's own images, to measure the run through.

For where the Inception network says nothing (digits) or is not at hand. The
same data and machine give the same weights, so runs compare; the hash in
every report says whether they did.
"""

import os

import tensorflow as tf
import tf_keras

from gan import data

BATCH = 64
_WIDTHS = (16, 32, 64)


def train(images: data.Source, steps: int) -> tf_keras.Model:
    """Trains the classifier: three strided convolutions, 64 features.

    Args:
      images: what to learn from.
      steps: of 64 images.
    """
    model = _network((images.side, images.side, 3), images.classes)
    optimizer = tf_keras.optimizers.Adam(1e-3, jit_compile=False)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(pixels: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = model(pixels, training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))

    for pixels, labels in data.inputs(images, 0, BATCH).take(steps):
        step(pixels, labels)
    return model


def save(model: tf_keras.Model, path: str) -> None:
    """Saves a model so that a kill leaves a whole file or none."""
    stem, suffix = os.path.splitext(path)
    temporary = f"{stem}.{os.getpid()}.tmp{suffix}"
    model.save(temporary)
    os.replace(temporary, path)


def _network(shape: tuple[int, ...], classes: int) -> tf_keras.Model:
    """Its initial weights are fixed, whatever the global seed."""

    def initializer(seed: int) -> tf_keras.initializers.Initializer:
        return tf_keras.initializers.GlorotUniform(seed)

    x = inputs = tf_keras.Input(shape)
    for seed, width in enumerate(_WIDTHS):
        x = tf_keras.layers.Conv2D(
            width,
            3,
            2,
            "same",
            activation="relu",
            kernel_initializer=initializer(seed),
        )(x)
    x = tf_keras.layers.Flatten()(x)
    x = tf_keras.layers.Dense(
        64, activation="relu", kernel_initializer=initializer(10)
    )(x)
    logits = tf_keras.layers.Dense(classes, kernel_initializer=initializer(11))(
        x
    )
    return tf_keras.Model(inputs, logits)
