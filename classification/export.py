r"""Exports a trained classifier, and compares it with the model.

    python -m classification.export --model_dir=RUN --output_dir=DIR \
        --format=saved_model,tflite --checkpoint=best

An exported model takes uint8 images [N, H, W, C] for any N, including the
scaling to the network's range, and returns "logits" and "probabilities"
[N, classes] and "label" [N]. Its layers are in the folded form of
`evonorm_tf.exporting`. If images are cropped and resized, the SavedModel has a
second signature, "jpeg", for files' bytes [N], which crops and resizes as in an
evaluation. "tflite_int8" takes its ranges from the training data, which must be
at the run's path.

`labels.txt` has one name per line, and `export.json` the origin of the weights,
their metrics, and for each format the difference of the logits, the size and
the latency. Too large a difference is an error.
"""

import functools
import pathlib

import numpy as np
import tensorflow as tf
import tf_keras
from absl import flags

from classification import datasets, task
from classification.augment import center_window, normalize, resize
from classification.settings import Data
from evonorm_tf import files
from evonorm_tf.exporting import check, inference_form
from evonorm_tf.exporting.formats import FORMATS as ALL_FORMATS
from evonorm_tf.exporting.formats import Source
from training import commands, saved
from training.images import decoding, errors

FLAGS = flags.FLAGS
# All but Keras's own format, which would be mistaken for a run.
FORMATS = tuple(name for name in ALL_FORMATS if name != "keras")
_CHECKED = 8  # images
_RANGES = 128  # number of images for int8's ranges


class Classifier:
    """The exported network with its pre- and postprocessing.

    `images` and the functions of `others` keep the graph of their first call,
    so use one object for the layers as trained and one for the folded form.
    """

    def __init__(self, model: tf_keras.Model, data: Data, resized: bool):
        """Args: the network, how images are read, and whether resized."""
        self.model = model
        self._data = data
        self._resized = resized
        shape = [None, *model.input_shape[1:]]
        spec = tf.TensorSpec(shape, tf.uint8, name="images")
        self.images = tf.function(self._images, input_signature=[spec])

    def _images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps uint8 [N, H, W, C] to logits, probabilities and labels."""
        scaled = normalize(images, self._data.mean, self._data.std)
        logits = self.model(scaled, training=False)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "label": tf.argmax(logits, axis=-1, output_type=tf.int32),
        }

    @tf.function
    def jpeg(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """Takes bytes [N] of JPEG or PNG files; crops as in evaluation."""
        size = self.model.input_shape[1]
        choose = functools.partial(center_window, size=size)

        def load(one):
            image = decoding.exportable(one, choose)
            return tf.ensure_shape(resize(image, size), [size, size, 3])

        return self.images(
            tf.map_fn(load, encoded, fn_output_signature=tf.uint8)
        )

    def others(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Returns signatures besides `images`, by name."""
        if not self._resized or self.model.input_shape[-1] != 3:
            return {}
        encoded = tf.TensorSpec([None], tf.string, name="jpeg")
        return {"jpeg": self.jpeg.get_concrete_function(encoded)}


def export(
    model_dir: str,
    output_dir: str,
    formats: list[str],
    checkpoint: str = "latest",
    tolerance: float | None = None,
) -> dict[str, check.Checked]:
    """Exports a run's classifier and compares it with the model.

    Args:
      model_dir: the run's folder.
      output_dir: destination; created if needed.
      formats: some of `FORMATS`.
      checkpoint: "latest", "best" or the path of one, without .index.
      tolerance: largest difference of a logit, relative to the largest; None
        for the format's default.

    Returns:
      By format: the difference of its logits, its size and latency.

    Raises:
      ValueError: if the run, checkpoint or format does not exist, there are no
        training data for "tflite_int8", or an export differs from the model by
        more than its tolerance.
      ImportError: if "onnx" needs the packages of the extra `export`.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise ValueError(
            f"The formats must be some of {', '.join(FORMATS)}. "
            f"Received: {formats}"
        )
    run = task.restore(model_dir, checkpoint)
    data = run.params.task.validation_data
    # Older runs do not record it; a size in their config implies it.
    facts = run.run.facts()
    resized = facts.get("resized", bool(data.image_size))
    images = _real(run) if "tflite_int8" in formats else _noise(run)
    compared = images[:_CHECKED]
    wanted = Classifier(run.model, data, resized).images(compared)
    expected = (compared, {"logits": wanted["logits"].numpy()})
    served = Classifier(run.model, data, resized)
    with inference_form(run.model) as left:
        served.images.get_concrete_function()
        others = served.others()
    source = Source(run.model, served.images, images, others)
    with saved.staging(run, output_dir) as (folder, about):
        done = {}
        for name in formats:
            path = pathlib.Path(folder, ALL_FORMATS[name].file)
            done[name] = check.write(name, source, path, expected, tolerance)
        classes = [str(k) for k in range(run.params.task.model.num_classes)]
        names = facts.get("classes") or classes
        files.write(files.join(folder, "labels.txt"), "\n".join(names) + "\n")
        about |= {
            "input": [None, *run.model.input_shape[1:]],
            "relative_differences": {k: v.difference for k, v in done.items()},
            "files": {k: v._asdict() for k, v in done.items()},
            "not_folded": left,
        }
    return done


def _noise(run: saved.Restored) -> np.ndarray:
    """Returns uint8 images [N, H, W, C]; a comparison needs no data."""
    shape = [_CHECKED, *run.model.input_shape[1:]]
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _real(run: saved.Restored) -> np.ndarray:
    """Returns uint8 images of the training data, without augmentation."""
    settings = run.params.task.train_data.replace(
        global_batch_size=_RANGES,
        is_training=True,  # To shuffle, as files may be sorted by class.
        **{"augmentation": "none", "randaugment_layers": 0},
        **{"mixup_alpha": 0.0, "cutmix_alpha": 0.0},
        **{"mean": [0.0], "std": [1 / 255]},  # Pixels, 0 to 255.
    )
    source = datasets.open_source(settings, run.params.task.model.num_classes)
    batches = datasets.inputs(source, settings)
    read = f"Received: dataset={settings.dataset!r}, split={settings.split!r}"
    with errors.readable("classification", lambda: read):
        images, _ = next(iter(batches))
    return np.rint(images).astype(np.uint8)


def main(_: list[str]) -> None:
    """Exports as the flags say."""
    done = export(
        FLAGS.model_dir,
        FLAGS.output_dir,
        FLAGS.format,
        FLAGS.checkpoint,
        FLAGS.tolerance,
    )
    for name, one in done.items():
        print(
            f"{name}: logits differ from the model's by {one.difference:.1e} "
            f"of the largest (at most {one.tolerance:.0e}), "
            f"{check.readable(one.size)}, {check.latency(one.milliseconds)}"
        )
    print(f"Exported to {FLAGS.output_dir}")


if __name__ == "__main__":
    saved.define_flags()
    flags.DEFINE_list("format", "saved_model", f"Some of {', '.join(FORMATS)}.")
    flags.DEFINE_float(
        "tolerance", None, "Largest relative difference of a logit."
    )
    commands.run(main)
