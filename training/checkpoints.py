"""Saves and reads checkpoints in folders of any name, and checks them."""

import contextlib
from collections.abc import Iterator, Mapping

import tensorflow as tf
import tf_keras

from evonorm_tf import files

_STEP = "global_step/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = ".OPTIMIZER_SLOT"
# What TensorFlow's PreemptionCheckpointHandler, which only several workers
# have, adds to the checkpoint: how often it was called.
_CALLS = "checkpointed_runs"


class Checkpoints(tf.train.CheckpointManager):
    """TensorFlow's CheckpointManager, for folders of any name.

    TensorFlow interprets the folder as a pattern when it reads a checkpoint and
    when it removes old ones: in a folder "runs/*" it would remove those of
    other runs.
    """

    def __init__(
        self,
        checkpoint: tf.train.Checkpoint,
        folder: str,
        models: Mapping[str, tf_keras.Model] | None = None,
        **settings,
    ):
        """Continues the sequence of checkpoints in a folder.

        Args:
          checkpoint: the checkpoint to save.
          folder: created if needed.
          models: its models, by name; see `restore`.
          **settings: further arguments of tf.train.CheckpointManager.
        """
        super().__init__(checkpoint, files.make_folder(folder), **settings)
        self._models = models or {}
        if self.checkpoint_interval is not None:
            last = self.latest_checkpoint
            self._last_checkpoint_step = 0 if last is None else saved_step(last)

    def save(self, checkpoint_number=None, check_interval=True, options=None):
        """Saves a checkpoint if a multiple of the interval was passed.

        TensorFlow counts the interval from the last checkpoint, which need not
        be at a multiple of it, where the evaluations are.

        Args: see tf.train.CheckpointManager.

        Returns:
          The prefix of the checkpoint; None if none is due.
        """
        every = self.checkpoint_interval
        if every and check_interval:
            step = int(self._step_counter.numpy())
            if step // every == self._last_checkpoint_step // every:
                return None
            check_interval = False
        return super().save(checkpoint_number, check_interval, options)

    def restore_or_initialize(self) -> str | None:
        """Restores the latest checkpoint, with the checks of `restore`."""
        if self.latest_checkpoint is None:
            return super().restore_or_initialize()
        restore(self.checkpoint, self.latest_checkpoint, self._models)
        return self.latest_checkpoint

    def _sweep(self) -> None:
        """Removes the oldest checkpoints, by their names."""
        while len(self._maybe_delete) > self._max_to_keep:
            path, _ = self._maybe_delete.popitem(last=False)
            remove_checkpoint(path)


def restore(
    reader: tf.train.Checkpoint,
    path: str,
    models: Mapping[str, tf_keras.Model],
) -> None:
    """Reads a checkpoint, and rejects one of other models.

    Args:
      reader: the checkpoint object to restore.
      path: the checkpoint's prefix.
      models: those of `reader`, by their names in it.

    Raises:
      ValueError: if weights have other shapes, are missing or are superfluous.
    """
    reason, plain = "", readable(path)
    saved = [name for name, _ in tf.train.list_variables(plain)]
    with _without_missing_calls(reader, saved):
        try:
            status = reader.restore(plain).expect_partial()
            status.assert_existing_objects_matched()
        # TensorFlow raises these for other shapes and for missing weights.
        except (AssertionError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
    for name, model in models.items():
        # A layer with fewer weights would find all of its own. Names can be
        # those of the model's parts, which a head saves separately.
        count = sum(
            key.startswith(f"{name}/") and _SLOT not in key for key in saved
        )
        if not reason and count > len(model.weights):
            reason = (
                f"its {name} has {count} weights, not {len(model.weights)}."
            )
    if reason:
        raise ValueError(
            f"The checkpoint has a different model than the config: {reason}"
            " Restore the params.yaml it was trained with. "
            f"Received: checkpoint={path!r}"
        )


@contextlib.contextmanager
def _without_missing_calls(
    reader: tf.train.Checkpoint, saved: list[str]
) -> Iterator[None]:
    """Lets several workers read the checkpoint of a single one."""
    calls = getattr(reader, _CALLS, None)
    if calls is None or any(key.startswith(f"{_CALLS}/") for key in saved):
        yield
        return
    delattr(reader, _CALLS)
    try:
        yield
    finally:
        setattr(reader, _CALLS, calls)


def readable(checkpoint: str) -> str:
    """Returns a prefix by which TensorFlow can read the checkpoint."""
    return files.without_wildcards(checkpoint)


def saved_step(checkpoint: str) -> int:
    """Returns the global step of a checkpoint.

    This creates no variable, which in the scope of several workers would wait
    for all of them.

    Args:
      checkpoint: its prefix.
    """
    reader = tf.train.load_checkpoint(readable(checkpoint))
    return int(reader.get_tensor(_STEP))


def copy_checkpoint(checkpoint: str, folder: str) -> None:
    """Copies a checkpoint and makes it the latest one of a folder."""
    for file in _files_of(checkpoint):
        files.copy(file, files.join(folder, files.name(file)))
    # As TensorFlow writes it, relative to its folder.
    state = f'model_checkpoint_path: "{files.name(checkpoint)}"\n'
    files.write(files.join(folder, "checkpoint"), state)


def remove_checkpoint(checkpoint: str) -> None:
    """Removes a checkpoint's files, and no others."""
    for file in _files_of(checkpoint):
        files.remove(file)


def _files_of(checkpoint: str) -> list[str]:
    """Returns the files of a checkpoint, its index last."""
    folder, stem = files.parent(checkpoint), files.name(checkpoint)
    names = [n for n in files.names(folder) if n.startswith(f"{stem}.")]
    return [files.join(folder, name) for name in names]
