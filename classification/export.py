"""Exports a trained classifier, and checks what it exported.

    python -m classification.export --model_dir=RUN --output_dir=DIR \
        --format=saved_model,tflite --checkpoint=best

An export takes the images as they are, uint8 [N, H, W, C] for any N, and
gives "logits" and "probabilities" [N, classes] and "label" [N]: the scaling
to the network's range is inside. The SavedModel of a network whose images
are cut and resized has a second signature, "jpeg", for files' bytes [N],
which cuts and resizes as the evaluation does.

Beside it are `labels.txt`, a name a line, and `export.json`: where the
weights come from, the metrics they had, and how far each export's logits are
from the model's. An export that is too far is an error.
"""

import json
import os
import shutil
import tempfile

import numpy as np
import tensorflow as tf
import tf_keras
from absl import app, flags

from classification import restore
from classification.augment import center_window, normalize, resize
from classification.settings import Data
from classification.tflite import TFLITE, write_tflite
from evonorm_tf.training import flags as training_flags
from evonorm_tf.training import progress

FLAGS = flags.FLAGS
FORMATS = ("saved_model", *TFLITE)
# Of logits, relative to the largest of them. float32 sums in another order
# differ by some 1e-6 a layer; a float16 weight is rounded by 2^-11, and the
# errors of tens of layers add up.
TOLERANCES = {"saved_model": 1e-5, "tflite": 1e-4, "tflite_float16": 2e-2}
_CHECKED = 8  # images


class Classifier(tf.Module):
    """What is exported: a network with its pre- and postprocessing."""

    def __init__(self, model: tf_keras.Model, data: Data, resized: bool):
        """Args: the network, how its images are read, if they are resized."""
        super().__init__(name="classifier")
        self.model = model
        self._data = data
        self._resized = resized

    @tf.function
    def images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """uint8 [N, H, W, C] to logits, probabilities and labels."""
        scaled = normalize(images, self._data.mean, self._data.std)
        logits = self.model(scaled, training=False)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "label": tf.argmax(logits, axis=-1, output_type=tf.int32),
        }

    @tf.function
    def jpeg(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """JPEG files' bytes [N], cut and resized as for an evaluation."""
        size = self.model.input_shape[1]

        def load(one):
            shape = tf.image.extract_jpeg_shape(one)
            window = center_window(shape, size)
            image = tf.image.decode_and_crop_jpeg(one, window, channels=3)
            return tf.ensure_shape(resize(image, size), [size, size, 3])

        return self.images(
            tf.map_fn(load, encoded, fn_output_signature=tf.uint8)
        )

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """By the names that a SavedModel serves them under."""
        shape = [None, *self.model.input_shape[1:]]
        images = tf.TensorSpec(shape, tf.uint8, name="images")
        found = {"serving_default": self.images.get_concrete_function(images)}
        if self._resized and shape[-1] == 3:
            encoded = tf.TensorSpec([None], tf.string, name="jpeg")
            found["jpeg"] = self.jpeg.get_concrete_function(encoded)
        return found


def export(
    model_dir: str,
    output_dir: str,
    formats: list[str],
    checkpoint: str = "latest",
) -> dict[str, float]:
    """Exports a run's classifier and compares it with the model.

    Args:
      model_dir: the run's directory.
      output_dir: where to; made where it is not there.
      formats: some of `FORMATS`.
      checkpoint: "latest" or "best".

    Returns:
      Largest difference of a logit by format, relative to the largest logit.

    Raises:
      ValueError: no such run, checkpoint or format; an export that differs
        from the model by more than its tolerance.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise ValueError(
            f"The formats are {', '.join(FORMATS)}. Received: {formats}"
        )
    run = restore.restore(model_dir, checkpoint)
    data = run.params.task.validation_data
    # Older runs do not say; a size in their config does.
    resized = run.about.get("resized", bool(data.image_size))
    classifier = Classifier(run.model, data, resized)
    images = tf.cast(
        tf.random.stateless_uniform(
            [_CHECKED, *run.model.input_shape[1:]], [1, 2], 0, 256, tf.int32
        ),
        tf.uint8,
    )
    wanted = classifier.images(images)["logits"].numpy()
    os.makedirs(output_dir, exist_ok=True)
    # What is refused never stands under its name.
    with tempfile.TemporaryDirectory(".unchecked", dir=output_dir) as aside:
        differences = {
            name: _checked(classifier, name, aside, (images, wanted))
            for name in formats
        }
        _replace(aside, output_dir)
    _write_about(run, output_dir, differences)
    return differences


def _checked(
    classifier: Classifier,
    name: str,
    folder: str,
    expected: tuple[tf.Tensor, np.ndarray],
) -> float:
    """Writes one format; its difference from (images, logits)."""
    images, wanted = expected
    got = _write(classifier, name, folder)(images)
    error = abs(got - wanted).max() / abs(wanted).max()
    # Not `>`: what is no number is no export either.
    if not error <= TOLERANCES[name]:
        raise ValueError(
            f"The {name} export is not the model: its logits differ by "
            f"{error:.1e} of the largest, at most {TOLERANCES[name]:.0e} "
            "expected. It was not kept; what output_dir held before was. "
            f"Received: format={name!r}"
        )
    return float(error)


def _replace(aside: str, folder: str) -> None:
    """Moves what is checked into its place; export.json comes last."""
    about = os.path.join(folder, "export.json")
    if os.path.exists(about):
        os.remove(about)
    for name in os.listdir(aside):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        os.replace(os.path.join(aside, name), path)


def _write(classifier: Classifier, name: str, folder: str):
    """Writes one format; what it returns computes logits from the file."""
    signatures = classifier.signatures()
    if name in TFLITE:
        path = os.path.join(folder, f"{name}.tflite")
        return write_tflite(
            classifier, signatures["serving_default"], name, path
        )
    path = os.path.join(folder, name)
    tf.saved_model.save(classifier, path, signatures=signatures)
    serve = tf.saved_model.load(path).signatures["serving_default"]
    return lambda images: serve(images=images)["logits"].numpy()


def _write_about(
    run: restore.Restored, folder: str, differences: dict[str, float]
) -> None:
    classes = run.params.task.model.num_classes
    names = run.about.get("classes") or [str(k) for k in range(classes)]
    progress.write_atomically(
        os.path.join(folder, "labels.txt"), "\n".join(names) + "\n"
    )
    about = {
        "checkpoint": run.path,
        "step": run.step,
        "weights": "averaged" if run.averaged else "as trained",
        "metrics": run.metrics,
        "input": [None, *run.model.input_shape[1:]],
        "relative_differences": differences,
        "run": run.about,
        "config": run.params.as_dict(),
    }
    progress.write_atomically(
        os.path.join(folder, "export.json"),
        json.dumps(about, indent=2) + "\n",
    )


def main(_: list[str]) -> None:
    """Exports what the flags ask for."""
    training_flags.quiet_logs()
    differences = export(
        FLAGS.model_dir, FLAGS.output_dir, FLAGS.format, FLAGS.checkpoint
    )
    for name, error in differences.items():
        print(
            f"{name}: logits differ from the model's by {error:.1e} of the "
            f"largest (at most {TOLERANCES[name]:.0e})"
        )
    print(f"Exported to {FLAGS.output_dir}")


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "The run's directory.")
    flags.DEFINE_string("output_dir", None, "Where the export goes.")
    flags.DEFINE_list("format", "saved_model", f"Of {', '.join(FORMATS)}.")
    flags.DEFINE_enum(
        "checkpoint", "latest", restore.CHECKPOINTS, "Which weights."
    )
    flags.mark_flags_as_required(["model_dir", "output_dir"])
    app.run(main)
