"""Measures the averaged generator: samples, distance, class score."""

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from evonorm_tf.training import config, progress
from gan import data, experiment, networks, sampling
from gan.metrics import classifier, extractor, frechet
from gan.metrics.moments import Moments
from gan.metrics.score import ClassScore

CLASSIFIER_FILE = "classifier.keras"
RESULT_FILE = "evaluation.json"
SAMPLES = "samples"
_REAL_BATCH = 500


class Evaluator(orbit.AbstractEvaluator):
    """Evaluates a generator against the images of its own training split.

    Attributes:
      about: how the numbers were made, in words; "" before the first.
    """

    def __init__(
        self,
        params: config.Experiment,
        generator: networks.Generator,
        strategy: tf.distribute.Strategy,
        model_dir: str,
        step: Callable[[], int],
    ):
        """Prepares an evaluation; nothing is read or made before the first.

        Args:
          params: the experiment.
          generator: the averaged one.
          strategy: whose scope it was built in.
          model_dir: where samples, results and a trained classifier go.
          step: gives the global step.
        """
        self._task: experiment.Task = params.task
        self._norm_act = params.task.model.norm_act.name
        self._sampler = sampling.Sampler(generator, params.task, strategy)
        self._model_dir, self._step = model_dir, step
        self._extract: extractor.Extractor | None = None
        self._real: Moments | None = None
        self.about = ""

    def evaluate(self, num_steps: Any) -> dict[str, float]:
        """Settles the average, writes a grid of samples, measures.

        Args:
          num_steps: Orbit's; the number of samples is the config's.
        """
        del num_steps
        self._prepare()
        self._sampler.settle()
        step = self._step()
        grid = self._sampler.grid(self._task.evaluation.grid_rows)
        folder = os.path.join(self._model_dir, SAMPLES)
        os.makedirs(folder, exist_ok=True)
        sampling.write_png(grid, os.path.join(folder, f"step-{step:07d}.png"))
        tf.summary.image("samples", grid[np.newaxis], step=step)
        metrics = self._measure()
        result = {"step": step, "norm_act": self._norm_act, **metrics}
        progress.write_atomically(
            os.path.join(self._model_dir, RESULT_FILE),
            json.dumps({**result, "about": self.about}, indent=2) + "\n",
        )
        return metrics

    def _prepare(self) -> None:
        """Opens the extractor and measures the real images, once."""
        if self._real is not None:
            return
        task, settings = self._task, self._task.evaluation
        images = data.open_images(task.train_data, task.model)
        self._extract = self._open_extractor(images)
        if settings.samples <= self._extract.size:
            raise ValueError(
                "A covariance of as many features as samples is singular. "
                f"Set task.evaluation.samples above {self._extract.size}. "
                f"Received: samples={settings.samples}"
            )
        moments = Moments(self._extract.size)
        for first in range(0, len(images), _REAL_BATCH):
            pixels = images.pixels[first : first + _REAL_BATCH]
            moments.update(self._extract(pixels)[0])
        self._real = moments
        self.about = (
            f"{settings.samples} images made of the averaged generator's "
            f"classes in turn, no truncation, seed {settings.seed}, against "
            f"{moments.count} of {images.name}; {self._extract.about}; score "
            f"over {settings.splits} shuffled splits"
        )

    def _open_extractor(self, images: data.Images) -> extractor.Extractor:
        path = self._task.evaluation.classifier
        if path:
            return extractor.load(path)
        path = os.path.join(self._model_dir, CLASSIFIER_FILE)
        if not os.path.exists(path):
            classes = self._task.model.num_classes
            classifier.save(classifier.train(images, classes), path)
        return extractor.load(path)

    def _measure(self) -> dict[str, float]:
        """Distance and score of fresh samples, in one pass."""
        settings, extract = self._task.evaluation, self._extract
        made = Moments(extract.size)
        score = ClassScore(settings.samples, extract.classes, settings.splits)
        for pixels in self._sampler.images(settings.samples):
            features, logits = extract(pixels)
            made.update(features)
            score.update(logits)
        mean, deviation = score.result()
        return {
            f"{extract.prefix}_distance": frechet.distance(self._real, made),
            f"{extract.prefix}_score": mean,
            f"{extract.prefix}_score_std": deviation,
        }
