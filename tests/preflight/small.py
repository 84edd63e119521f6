"""A train step small enough for tests, built by hand."""

import functools

import numpy as np
import tensorflow as tf
import tf_keras

from evonorm_tf import legacy

BATCH = 8


def network(layer: str | None = "evonorm_b0") -> tf_keras.Model:
    """[N, 8, 8, 3] to [N, 4], one convolution and one norm_act."""
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    norm_act = functools.partial(legacy.norm_act, groups=4)
    images = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, use_bias=False)(images)
    if layer is not None:
        x = norm_act(layer)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(images, layers.Dense(4)(x))


def loss_of(model: tf_keras.Model, images, labels) -> tf.Tensor:
    """Mean cross-entropy of uint8 images."""
    logits = model(tf.cast(images, tf.float32) / 255.0, training=True)
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    )


def train_step(model: tf_keras.Model):
    """SGD with momentum, as a function of (images, labels)."""
    weights = model.trainable_variables
    optimizer = tf_keras.optimizers.SGD(0.02, momentum=0.9)
    optimizer.build(weights)

    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(model, images, labels)
        gradients = tape.gradient(loss, weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss

    return step


def data(examples: int = 40) -> dict[str, np.ndarray]:
    """Images of four brightnesses."""
    generator = np.random.default_rng(0)
    labels = (np.arange(examples) % 4).astype(np.int32)
    noise = generator.integers(0, 60, (examples, 8, 8, 3))
    images = noise + 60 * labels[:, None, None, None]
    return {"images": images.astype(np.uint8), "labels": labels}
