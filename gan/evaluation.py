"""Evaluates the averaged generator: samples, distances, class score."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from evonorm_tf import files
from gan import datasets, experiment, networks, sampling
from gan.metrics import classifier, extractor, measure, reference
from training import config, runs, workers

RESULT_FILE = "evaluation.json"
SAMPLES = "samples"
_REAL_BATCH = 500


def check(settings: experiment.Evaluation) -> None:
    """Rejects invalid settings of an evaluation, before anything is run.

    Raises:
      ValueError: names the setting and its valid values.
    """
    least = {
        "samples": 2,
        **dict.fromkeys(("batch_size", "splits", "standing_batches"), 1),
        **dict.fromkeys(("settle_iterations", "grid_rows"), 1),
        "kernel_blocks": 1,
        "kernel_block": 0,
        "classifier_steps": 0,
    }
    config.require_at_least(settings, least, "task.evaluation.")
    given = settings.truncations
    if not given or not all(0.0 < one <= 1.0 for one in given):
        # A run of an earlier version may have recorded 2.0.
        raise ValueError(
            "The sweep needs at least one truncation, each above 0 and at most "
            "1 because it multiplies normals that are truncated at 2 standard "
            "deviations, such as task.evaluation.truncations=[1.0,0.5]. "
            f"Received: truncations={given}"
        )


class Evaluator(orbit.AbstractEvaluator):
    """Evaluates a generator against real images.

    Attributes:
      about: describes the provenance of the metrics; "" before the first.
      result_file: file of the last evaluation's metrics; "" before.
    """

    def __init__(
        self,
        params: config.Experiment,
        generator: networks.Generator,
        strategy: tf.distribute.Strategy,
        run: runs.Run,
        step: Callable[[], int],
        apart: bool = False,
    ):
        """Prepares an evaluation; nothing is read or written before the first.

        Args:
          params: the experiment.
          generator: the averaged one.
          strategy: in whose scope it was built.
          run: folder for samples, results and a trained classifier.
          step: returns the global step.
          apart: whether each kind of evaluation gets separate files, instead
            of those of the run's own evaluations.
        """
        self._task: experiment.Task = params.task
        self._norm_act = params.task.model.norm_act.name
        self._sampler = sampling.Sampler(generator, params.task, strategy)
        self._run, self._step = run, step
        self._devices, self._chief = strategy, workers.is_chief(strategy)
        self._join = functools.partial(workers.join, devices=strategy)
        self._extract: extractor.Extractor | None = None
        self._real: measure.Statistics | None = None
        self._apart = apart
        self.about = self.result_file = ""

    def evaluate(self, num_steps: Any) -> dict[str, float]:
        """Settles the average, draws samples and measures them.

        Args:
          num_steps: Orbit's; the config sets the number of samples.
        """
        del num_steps
        self._prepare()
        self._sampler.settle()
        step, settings = self._step(), self._task.evaluation
        made = measure.facts(
            self._sampler.about(), settings.samples, self._extract, settings
        )
        facts = {"real": self._real.facts, "made": made}
        name, mark = RESULT_FILE, ""
        if self._apart:
            # The last two are of the pictures only.
            drawn = [facts, settings.grid_rows, settings.truncations]
            mark = f"-{reference.digest(drawn)[:12]}"
            name = f"evaluation-{step:07d}{mark}.json"
        folder = files.make_folder(self._run.path(SAMPLES))
        for kind, picture in (
            ("step", self._sampler.grid(settings.grid_rows)),
            ("truncation", self._sampler.truncation(settings.truncations)),
            ("interpolation", self._sampler.interpolation()),
        ):
            path = files.join(folder, f"{kind}-{step:07d}{mark}.png")
            if self._chief:
                sampling.write_png(picture, path)
            title = "samples" if kind == "step" else kind
            tf.summary.image(title, picture[np.newaxis], step=step)
        metrics = self._measure()
        result = {"step": step, "norm_act": self._norm_act, **metrics}
        result |= {"about": self.about, "facts": facts}
        if self._chief:
            self.result_file = self._run.write_json(result, name)
        return metrics

    def _prepare(self) -> None:
        """Opens the extractor and measures the real images, once."""
        if self._real is not None:
            return
        task, settings = self._task, self._task.evaluation
        images = datasets.open_images(
            task.train_data, task.model, settings.split
        )
        extract = self._extract = self._open_extractor()
        for count, what in (
            (settings.samples, "made images"),
            (images.examples, images.name),
        ):
            measure.require_enough(count, extract, settings, what)
        name = f"{images.name}, {images.shape[0]} px"
        facts = measure.facts(name, images.examples, extract, settings)
        path = settings.reference or reference.path_in(self._run.folder, facts)

        share = workers.share(self._devices)
        # The batch is the same for any number of workers, and so are sums.
        batch = _REAL_BATCH * share.pipelines

        def make() -> measure.Statistics:
            return measure.measure(
                datasets.in_order(images, batch, share),
                extract,
                settings,
                name,
                images.examples,
                self._join,
            )

        # All workers check before the first of them writes.
        there = workers.gather(files.exists(path), self._devices)
        if all(there):
            self._real = reference.cached(path, facts, make)
            return
        self._real = make()
        if self._chief:
            reference.save(self._real, path)

    def _open_extractor(self) -> extractor.Extractor:
        task, settings = self._task, self._task.evaluation
        if settings.extractor != "own":
            return measure.open_extractor(settings)
        images = datasets.open_images(task.train_data, task.model)

        def own() -> extractor.Extractor:
            return classifier.own(
                self._run.folder,
                images,
                settings.classifier_steps,
                settings.sha256,
            )

        found = own() if self._chief else None
        workers.gather(None, self._devices)  # Wait for what it wrote.
        return found or own()

    def _measure(self) -> dict[str, float]:
        """Returns distances and score of new samples, in one pass."""
        settings = self._task.evaluation
        made = measure.measure(
            self._sampler.images(settings.samples),
            self._extract,
            settings,
            self._sampler.about(),
            settings.samples,
            self._join,
            seed=1,
        )
        self.about = measure.about(self._real, made, settings)
        return measure.compare(self._real, made, self._extract, settings)
