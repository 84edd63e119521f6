"""A small classifier of a run's own images, as a feature extractor.

It is used where the Inception network is meaningless (digits) or not available.
The same data and machine give the same weights, whatever the run's precision,
so that runs can be compared; the hash in every report verifies this.
"""

import tensorflow as tf
import tf_keras

from evonorm_tf import files
from gan import datasets
from gan.metrics import extractor
from training import runs

BATCH = 64
FILE, ORIGIN = "classifier.keras", "classifier.json"
_WIDTHS = (16, 32, 64)


def own(
    folder: str, images: datasets.Source, steps: int, sha256: str = ""
) -> extractor.KerasClassifier:
    """Returns the classifier of a run, trained if its folder has none.

    Args:
      folder: the run's.
      images: training images.
      steps: number of training steps.
      sha256: what its hash must be, or begin with.

    Raises:
      ValueError: if the existing one was trained differently; it is not
        changed.
    """
    run = runs.Run(folder)
    path = run.path(FILE)
    wanted = {"images": f"{images.name}, {images.shape[0]} px", "steps": steps}
    # That of an older version has no origin next to it.
    if run.has(FILE) and run.has(ORIGIN):
        found = run.json(ORIGIN)
        if found != wanted:
            raise ValueError(
                "The run's own classifier was trained differently than "
                "requested. Evaluate with its settings, remove it, or "
                f"choose another model_dir. Received: path={path!r} of "
                f"{found}, wanted {wanted}"
            )
    if not run.has(FILE):
        run.write_json(wanted, ORIGIN)
        save(train(images, steps), path)
    return extractor.load(path, sha256)


def train(images: datasets.Source, steps: int) -> tf_keras.Model:
    """Trains the classifier: three strided convolutions, 64 features.

    Args:
      images: training images.
      steps: number of steps with 64 images each.
    """
    model = _network(images.shape, images.classes)
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

    for pixels, labels in datasets.inputs(images, 0, BATCH).take(steps):
        step(pixels, labels)
    return model


def save(model: tf_keras.Model, path: str) -> None:
    """Saves a model atomically."""
    with files.writing(path) as place:
        model.save(place)


def _network(shape: tuple[int, ...], classes: int) -> tf_keras.Model:
    """Returns the network in float32, with fixed initial weights."""

    def initializer(seed: int) -> tf_keras.initializers.Initializer:
        return tf_keras.initializers.GlorotUniform(seed)

    x = inputs = tf_keras.Input(shape, dtype="float32")
    for seed, width in enumerate(_WIDTHS):
        x = tf_keras.layers.Conv2D(
            width,
            3,
            2,
            "same",
            data_format="channels_last",
            activation="relu",
            kernel_initializer=initializer(seed),
            dtype="float32",
        )(x)
    x = tf_keras.layers.Flatten("channels_last", dtype="float32")(x)
    x = tf_keras.layers.Dense(
        64,
        activation="relu",
        kernel_initializer=initializer(10),
        dtype="float32",
    )(x)
    logits = tf_keras.layers.Dense(
        classes, kernel_initializer=initializer(11), dtype="float32"
    )(x)
    return tf_keras.Model(inputs, logits)
