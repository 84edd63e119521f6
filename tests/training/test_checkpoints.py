"""Checkpoints are compared with the models that are to read them."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from training import checkpoints


class _Detector(tf_keras.Model):
    """Of parts that its trainer saves by themselves, too."""

    def __init__(self, *units):
        super().__init__()
        self.body = tf_keras.Sequential(
            [tf_keras.layers.Dense(n) for n in units]
        )
        self.body.build([None, 2])

    def call(self, inputs):
        """Of the body."""
        return self.body(inputs)


def _reader(model, **parts):
    return tf.train.Checkpoint(model=model, **parts)


@pytest.mark.parametrize("by_parts", [False, True])
def test_a_model_is_read_by_itself_or_by_its_parts(by_parts, tmp_path):
    saved, read = _Detector(3, 4), _Detector(3, 4)
    parts = {"body": saved.body} if by_parts else {}
    path = _reader(saved, **parts).save(str(tmp_path / "ckpt"))
    names = [name for name, _ in tf.train.list_variables(path)]
    assert any(n.startswith("body/") for n in names) == by_parts
    checkpoints.restore(_reader(read), path, {"model": read})
    for one, other in zip(saved.weights, read.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "units, message",
    [((3, 5), "shape"), ((3, 4, 5), "not bound"), ((3,), "4 weights, not 2")],
)
def test_another_model_is_refused(units, message, tmp_path):
    saved, read = _Detector(3, 4), _Detector(*units)
    path = _reader(saved).save(str(tmp_path / "ckpt"))
    with pytest.raises(ValueError, match=rf"different model.*{message}"):
        checkpoints.restore(_reader(read), path, {"model": read})


@pytest.mark.parametrize("saved_by_several", [False, True])
def test_several_workers_read_what_one_or_several_saved(
    saved_by_several, tmp_path
):
    def calls(number):  # As PreemptionCheckpointHandler names them.
        return {"checkpointed_runs": tf.Variable(number, dtype=tf.int64)}

    saved, read = _Detector(3), _Detector(3)
    parts = calls(7) if saved_by_several else {}
    path = _reader(saved, **parts).save(str(tmp_path / "ckpt"))
    reader = _reader(read, **calls(0))
    checkpoints.restore(reader, path, {"model": read})
    np.testing.assert_array_equal(saved.weights[0], read.weights[0])
    assert reader.checkpointed_runs.numpy() == (7 if saved_by_several else 0)
    # The number is saved from then on.
    again = [n for n, _ in tf.train.list_variables(reader.save(path))]
    assert any(n.startswith("checkpointed_runs/") for n in again)


@pytest.mark.parametrize(
    ("interval", "loop", "expected"),
    [(20, 5, [20, 40]), (20, 7, [21, 42]), (5, 10, [10, 20, 30, 40])],
)
@pytest.mark.parametrize("killed", [None, 25])
def test_checkpoints_are_at_multiples_of_the_interval(
    interval, loop, expected, killed, tmp_path
):
    step = tf.Variable(0, dtype=tf.int64)

    def manager():
        return checkpoints.Checkpoints(
            tf.train.Checkpoint(global_step=step),
            str(tmp_path),
            max_to_keep=9,
            step_counter=step,
            checkpoint_interval=interval,
        )

    saver, steps = manager(), []
    for at in range(loop, 45, loop):
        step.assign(at)
        if killed and at > killed:
            saver, killed = manager(), None
        if saver.save(checkpoint_number=at):
            steps.append(at)
    assert steps == expected
    # The last step of a run is saved wherever it is, and once.
    step.assign(44)
    saver = manager()
    assert saver.save(checkpoint_number=44, check_interval=False)
    assert not saver.save(checkpoint_number=44, check_interval=False)
