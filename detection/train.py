r"""Trains Mask R-CNN, evaluates it and draws its detections.

    python -m detection.train --debug
    python -m detection.train --row=coco/r50_fpn/evonorm_s0 \
        --params_override='task.train_data.input_path=DIR/train/*.tfrecord,...'
    python -m detection.train --row=coco/r50_fpn/evonorm_s0 \
        --preflight=v5e:2x2

The first command trains on scenes of scikit-learn's digits, in minutes. A row
of the tables (`python -m configs.tables coco` lists them) defines experiment,
recipe and layer. Without --model_dir, it is written to runs/ROW, and with
--debug to runs/debug/ROW; the first command writes to runs/debug/scenes. Run
the same command again to resume training from the last checkpoint. In addition
to checkpoints, the folder gets `results.json` (COCO results of the last
evaluation; `results_masks.json` for masks alone), `predictions.png` and
pictures for TensorBoard.
"""

from detection import (
    check_config,
    datasets,
    draw,
    evaluate,
    experiment,
    scenes,
    steps,
    task,
)
from detection.tables import TABLES
from training import config, driver, flags, garden, runs

PICTURE = "predictions.png"
PICTURES = "pictures"  # For TensorBoard.
_DRAWN = 6
_DEBUG_SCENES = scenes.Scenes(train=16, validation=8)
_DEBUG_STEPS = 4
_SCENES_STEPS = 200  # On scenes of digits, enough to detect something.


class Detection(garden.TaskHead):
    """See `training.driver.Head`."""

    step = staticmethod(steps.preflight_module)

    def prepare(self, params: config.Experiment, run: runs.Run) -> task.Task:
        """Renders scenes if the experiment uses them; checks the data."""
        return task.prepare(params, run.folder)

    def data(self, params: config.Experiment, prepared: task.Task) -> list[str]:
        """Returns counts and digests of both splits' records."""
        del prepared
        splits = (params.task.train_data, params.task.validation_data)
        return [datasets.open_records(one).identity() for one in splits]

    def shrink(self, params: config.Experiment, replicas: int = 1) -> str:
        """Shrinks any experiment, without its data, for --debug.

        One block per stage at a quarter of the width, 128 pixels, few boxes. An
        experiment without data of its own gets a few scenes of digits and four
        steps; one with data takes four steps and evaluates four batches; one on
        scenes keeps them and takes 200. The code is that of the full run.
        """
        one, trainer = params.task, params.trainer
        most = _SCENES_STEPS
        if not one.scenes.train:
            most = _DEBUG_STEPS
            one.model.width *= 0.25
            one.model.max_depth = 1
            if not one.train_data.input_path:
                one.scenes = _DEBUG_SCENES.replace()
            one.train_data.num_examples = -1
        experiment.small_parts(one.model)
        batch = 8 if most == _SCENES_STEPS else 2
        for data in (one.train_data, one.validation_data):
            data.global_batch_size = min(
                batch * replicas, data.global_batch_size
            )
            data.shuffle_buffer_size = min(64, data.shuffle_buffer_size)
            data.parser.mask_crop_size = min(56, data.parser.mask_crop_size)
        one.train_data.global_batch_size *= params.runtime.accumulation_steps
        trainer.train_steps = min(most, trainer.train_steps)
        trainer.steps_per_loop = min(max(most // 8, 1), trainer.steps_per_loop)
        trainer.summary_interval = trainer.steps_per_loop
        trainer.checkpoint_interval = min(50, trainer.train_steps)
        trainer.validation_interval = trainer.train_steps
        where = one.train_data.input_path or "scenes of scikit-learn's digits"
        evaluated = ""
        if one.train_data.input_path:
            trainer.validation_steps = _DEBUG_STEPS
            # Metrics of a part of the images have other names.
            trainer.best_checkpoint_eval_metric = ""
            trainer.best_checkpoint_export_subdir = ""
            images = _DEBUG_STEPS * one.validation_data.global_batch_size
            evaluated = f", evaluated on at most {images} images"
        return (
            f"DEBUG: {trainer.train_steps} steps of a shrunken network on "
            f"{where}{evaluated}; its metrics mean nothing."
        )

    def draw(
        self, session: driver.Session, built: driver.Built, step: int
    ) -> list[str]:
        """Returns the last evaluation as a table, and draws pictures."""
        one, run = session.params.task, session.run
        if not one.use_coco_metrics:
            return []
        metric, picture = session.prepared.coco_metric, run.path(PICTURE)
        images = draw.read_images(one.validation_data.input_path, _DRAWN)
        draw.overview(images, metric.results, metric.truth, picture)
        place = run.path(PICTURES)
        draw.summaries(place, step, images, metric.results, metric.truth)
        return [evaluate.table(metric.figures), f"Picture: {picture}"]

    def preflight(
        self, params: config.Experiment, topology: str, json_file: str | None
    ) -> None:
        """Prints the TPU compiler's figures of the training step."""
        check_config.tpu_safe(params.task.model)
        super().preflight(params, topology, json_file)


HEAD = Detection()

if __name__ == "__main__":
    flags.train(HEAD, TABLES, "scenes_maskrcnn", "runs/scenes")
