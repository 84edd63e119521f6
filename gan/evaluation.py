"""Measures the averaged generator: samples, distances, class score."""

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from evonorm_tf.training import config, progress
from gan import data, experiment, networks, sampling
from gan.metrics import classifier, extractor, measure, reference

CLASSIFIER_FILE = "classifier.keras"
RESULT_FILE = "evaluation.json"
SAMPLES = "samples"
_REAL_BATCH = 500


class Evaluator(orbit.AbstractEvaluator):
    """Evaluates a generator against real images.

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
        self._real: measure.Statistics | None = None
        self.about = ""

    def evaluate(self, num_steps: Any) -> dict[str, float]:
        """Settles the average, draws samples, measures.

        Args:
          num_steps: Orbit's; the number of samples is the config's.
        """
        del num_steps
        self._prepare()
        self._sampler.settle()
        step, settings = self._step(), self._task.evaluation
        folder = os.path.join(self._model_dir, SAMPLES)
        os.makedirs(folder, exist_ok=True)
        for name, picture in (
            ("step", self._sampler.grid(settings.grid_rows)),
            ("truncation", self._sampler.truncation(settings.truncations)),
            ("interpolation", self._sampler.interpolation()),
        ):
            path = os.path.join(folder, f"{name}-{step:07d}.png")
            sampling.write_png(picture, path)
            title = "samples" if name == "step" else name
            tf.summary.image(title, picture[np.newaxis], step=step)
        metrics = self._measure()
        result = {"step": step, "norm_act": self._norm_act, **metrics}
        facts = {"real": self._real.facts, "made": self._made_facts()}
        result |= {"about": self.about, "facts": facts}
        progress.write_atomically(
            os.path.join(self._model_dir, RESULT_FILE),
            json.dumps(result, indent=2) + "\n",
        )
        return metrics

    def _prepare(self) -> None:
        """Opens the extractor and measures the real images, once."""
        if self._real is not None:
            return
        task, settings = self._task, self._task.evaluation
        images = data.open_images(task.train_data, task.model, settings.split)
        extract = self._extract = self._open_extractor()
        measure.require_enough(settings.samples, extract, "made images")
        name = f"{images.name}, {images.side} px"
        facts = measure.facts(name, len(images), extract, settings)
        path = settings.reference or reference.path_in(self._model_dir, facts)

        def make() -> measure.Statistics:
            return measure.measure(
                images.in_order(_REAL_BATCH),
                extract,
                settings,
                name,
                len(images),
            )

        self._real = reference.cached(path, facts, make)

    def _open_extractor(self) -> extractor.Extractor:
        task, settings = self._task, self._task.evaluation
        if settings.extractor != "own":
            return measure.open_extractor(settings)
        path = os.path.join(self._model_dir, CLASSIFIER_FILE)
        if not os.path.exists(path):
            images = data.open_images(task.train_data, task.model)
            trained = classifier.train(images, settings.classifier_steps)
            classifier.save(trained, path)
        return extractor.load(path, settings.sha256)

    def _made_facts(self) -> dict[str, str]:
        settings = self._task.evaluation
        name = (
            "made of the averaged generator's classes in turn, no "
            f"truncation, seed {settings.seed}"
        )
        count = settings.samples
        return measure.facts(name, count, self._extract, settings)

    def _measure(self) -> dict[str, float]:
        """Distances and score of fresh samples, in one pass."""
        settings = self._task.evaluation
        made = measure.measure(
            self._sampler.images(settings.samples),
            self._extract,
            settings,
            self._made_facts()["images"],
            settings.samples,
        )
        self.about = measure.about(self._real, made, settings)
        return measure.compare(self._real, made, self._extract, settings)
