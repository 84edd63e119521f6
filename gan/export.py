"""Exports a trained generator, and compares it with the model.

    python -m gan.export --checkpoint=RUN --output_dir=DIR \
        --format=saved_model,tflite

Every export takes "latents" [N, latent_size], float32, "labels" [N], int32,
and "truncation" [N], float32, which the latents are multiplied by, and gives
"images" [N, S, S, 3], uint8, and "values", the same in [-1, 1] as float32.
Without the truncation trick, latents are plain normals and the truncation is 1;
with it, they are normals truncated at 2 standard deviations and the truncation
is in (0, 1]. The SavedModel has a second signature, "sample", which draws them:
"labels" [N], "truncation" [], at most 1, where 0 stands for plain normals, and
"seed" [2], int64.

The weights are the averaged ones, settled as for `gan.sample`, and the layers
are in the folded form of `evonorm_tf.exporting`. Beside the export is
`export.json`: the origin of the weights, the metrics they had, and how far
each export's values are from the model's, its size and its latency. An export
that is too far is an error.
"""

import pathlib

import numpy as np
import tensorflow as tf
from absl import flags

from evonorm_tf.exporting import check, inference_form
from evonorm_tf.exporting.formats import FORMATS as ALL_FORMATS
from evonorm_tf.exporting.formats import Source
from gan import datasets, latent, networks, restore, sampling
from training import commands, saved

FLAGS = flags.FLAGS
FORMATS = ("saved_model", "tflite")
_CHECKED = 8  # images
_ONE_DEVICE = "runtime.distribution_strategy=one_device"


class Exported:
    """What is exported: a generator with its truncation and its pixels.

    Both functions keep the graph that they are first called with: one object
    for the layers as they are, one for their folded form.
    """

    def __init__(self, generator: networks.Generator, latent_size: int):
        """Initializes it.

        Args:
          generator: settled, see `gan.sampling.Sampler.settle`.
          latent_size: entries of a latent.
        """
        self.generator = generator
        self._size = latent_size
        specs = [
            tf.TensorSpec([None, latent_size], tf.float32, name="latents"),
            tf.TensorSpec([None], tf.int32, name="labels"),
            tf.TensorSpec([None], tf.float32, name="truncation"),
        ]
        self.images = tf.function(self._images, input_signature=specs)

    # There is no control flow on tensors: converting every layer's source took
    # half of the time of an export.
    @tf.autograph.experimental.do_not_convert
    def _images(
        self, latents: tf.Tensor, labels: tf.Tensor, truncation: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Latents [N, size], labels [N] and truncation [N] to images."""
        z = latents * truncation[:, tf.newaxis]
        values = self.generator(z, labels, training=False)
        return {
            "images": datasets.to_uint8(values),
            "values": tf.cast(values, tf.float32),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int32, name="labels"),
            tf.TensorSpec([], tf.float32, name="truncation"),
            tf.TensorSpec([2], tf.int64, name="seed"),
        ]
    )
    @tf.autograph.experimental.do_not_convert
    def sample(
        self, labels: tf.Tensor, truncation: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Images of labels [N], with the latents that `gan.sample` draws."""
        tf.debugging.Assert(
            (truncation >= 0.0) & (truncation <= 1.0),
            [
                "A truncation must be above 0 and at most 1, or 0 for plain "
                "normals. Received: truncation =",
                truncation,
            ],
        )
        count = tf.size(labels)
        plain, within = (
            latent.truncated(seed, count, self._size, factor)
            for factor in (0.0, 1.0)
        )
        cut = truncation > 0.0
        scale = tf.fill([count], tf.where(cut, truncation, 1.0))
        return self.images(tf.where(cut, within, plain), labels, scale)


def export(
    run: restore.Restored,
    output_dir: str,
    formats: list[str],
    tolerance: float | None = None,
) -> dict[str, check.Checked]:
    """Exports a run's generator and compares it with the model.

    Args:
      run: the restored run.
      output_dir: folder to write to; created if it does not exist.
      formats: some of `FORMATS`.
      tolerance: largest difference of a value, relative to the largest; None
        for the format's own.

    Returns:
      By format: the difference of its values, its size and latency.

    Raises:
      ValueError: an unknown format, or an export that differs from the model
        by more than its tolerance.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise ValueError(
            f"The formats are {', '.join(FORMATS)}. Received: {formats}"
        )
    sampling.Sampler(run.generator, run.params.task, run.strategy).settle()
    model = run.params.task.model
    inputs = _inputs(model.latent_size, model.num_classes)
    wanted = Exported(run.generator, model.latent_size).images(**inputs)
    expected = (inputs, {"values": wanted["values"].numpy()})
    served = Exported(run.generator, model.latent_size)
    with inference_form(run.generator) as left:
        served.images.get_concrete_function()
        others = {"sample": served.sample.get_concrete_function()}
    source = Source(run.generator, served.images, inputs, others)
    with saved.staging(run, output_dir) as (folder, about):
        done = {}
        for name in formats:
            path = pathlib.Path(folder, name + ALL_FORMATS[name].suffix)
            done[name] = check.write(name, source, path, expected, tolerance)
        about |= {
            "latent_size": model.latent_size,
            "classes": model.num_classes,
            "files": {k: v._asdict() for k, v in done.items()},
            "not_folded": left,
        }
    return done


def _inputs(latent_size: int, classes: int) -> dict[str, np.ndarray]:
    """What the model and its exports are compared on."""
    rng = np.random.default_rng(0)
    return {
        "latents": rng.normal(size=[_CHECKED, latent_size]).astype("float32"),
        "labels": np.arange(_CHECKED, dtype=np.int32) % classes,
        "truncation": np.linspace(0.25, 1.0, _CHECKED, dtype=np.float32),
    }


def main(_: list[str]) -> None:
    """Exports as the flags say."""
    run = restore.restore(FLAGS.checkpoint, _ONE_DEVICE)
    done = export(run, FLAGS.output_dir, FLAGS.format, FLAGS.tolerance)
    for name, one in done.items():
        print(
            f"{name}: values differ from the model's by {one.difference:.1e} "
            f"of the largest (at most {one.tolerance:.0e}), "
            f"{check.readable(one.size)}, {check.latency(one.milliseconds)}"
        )
    print(f"Exported to {FLAGS.output_dir}")


if __name__ == "__main__":
    flags.DEFINE_string(
        "checkpoint", None, "A run's directory, or one of its checkpoints."
    )
    flags.DEFINE_string("output_dir", None, "Folder to write the export to.")
    flags.DEFINE_list(
        "format", "saved_model", f"File formats: {', '.join(FORMATS)}."
    )
    flags.DEFINE_float(
        "tolerance", None, "Largest relative difference of a value."
    )
    flags.mark_flags_as_required(["checkpoint", "output_dir"])
    commands.run(main)
