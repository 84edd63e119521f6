"""A run of a few steps, for the tests of this folder.

`python -m tests.classification.small MODEL_DIR VARIANT MODE` runs it as a
process of its own, which a test may kill.
"""

import dataclasses
import sys

import evonorm_tf
from classification import train
from evonorm_tf import nets
from evonorm_tf.nets import resnet
from training import config, driver

# Most of a short run is the tracing of its layers: a stage of two blocks, of
# which one is built unless their number matters, as to stochastic depth.
_NETWORK = "one_stage_cifar"
_SIZE = resnet.Size(
    depths=(2,),
    filters=(32,),
    strides=(2,),
    bottleneck=False,
    stem="cifar",
    stem_filters=16,
)


class Silent:
    """A `progress.Display` that keeps what it was told.

    Attributes:
      lines: what was said.
      shares: how far the run was at each update.
    """

    live = False

    def __init__(self):
        self.lines, self.shares = [], []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def say(self, text):
        """As `progress.Display.say`."""
        self.lines.append(text)

    def update(self, share, note, seconds_left):
        """As `progress.Display.update`."""
        assert seconds_left >= 0
        self.lines.append(note)
        self.shares.append(share)


def network():
    """The name of the smallest network, which the first call registers."""
    nets.NETWORKS.setdefault(_NETWORK, nets.Network(_SIZE, 32))
    return _NETWORK


def shorten(monkeypatch, name):
    """Leaves a registered network its first stage, for a test.

    Of a mobile network two: the first one's block does not expand.
    """
    whole = nets.get(name)
    fields, stages = ("stages",), 2
    if isinstance(whole.size, resnet.Size):
        fields, stages = ("depths", "filters", "strides"), 1
    cut = {field: getattr(whole.size, field)[:stages] for field in fields}
    size = dataclasses.replace(whole.size, **cut)
    short = dataclasses.replace(whole, size=size)
    monkeypatch.setitem(nets.NETWORKS, name, short)


def parameters(norm_act="evonorm_s0", **trainer):
    """Digits, 12 steps of 8 images, a checkpoint every other step."""
    steps = {
        "train_steps": 12,
        "steps_per_loop": 2,
        "checkpoint_interval": 2,
        "validation_interval": 12,
        "max_to_keep": 20,
    }
    changes = {
        "task": {
            "train_data": {"global_batch_size": 8},
            "validation_data": {"global_batch_size": 256},
            "model": {"network": network(), "width": 0.5, "max_depth": 1},
        },
        "trainer": steps | trainer,
    }
    return config.parse(
        "digits_resnet", norm_act=norm_act, params_override=changes
    )


def everything():
    """Augmentation, dropout, averaged weights, the best checkpoint kept."""
    params = parameters(
        checkpoint_interval=4,
        validation_interval=4,
        best_checkpoint_export_subdir="best",
        best_checkpoint_eval_metric="accuracy",
        optimizer_config={"ema": {"average_decay": 0.9}},
    )
    model = {"dropout": 0.2, "stochastic_depth": 0.2, "max_depth": 2}
    params.task.model.override(model)
    params.task.train_data.augmentation = "crop_flip"
    return params


def everything_by_name():
    """The overrides of the same for a command: three blocks, 16 steps."""
    return (
        "task.train_data.global_batch_size=8,"
        "task.train_data.augmentation=crop_flip,"
        "task.validation_data.global_batch_size=256,"
        "task.model.width=0.25,task.model.max_depth=1,"
        "task.model.dropout=0.2,task.model.stochastic_depth=0.2,"
        "trainer.train_steps=16,trainer.steps_per_loop=2,"
        "trainer.checkpoint_interval=2,trainer.validation_interval=4,"
        "trainer.max_to_keep=20,trainer.best_checkpoint_export_subdir=best,"
        "trainer.best_checkpoint_eval_metric=accuracy,"
        "trainer.optimizer_config.ema.average_decay=0.9,runtime.compile='off'"
    )


VARIANTS = {"plain": parameters, "everything": everything}


def run(model_dir, params, mode="train", display=None):
    """Makes the run, from where `model_dir` left off."""
    return driver.run(
        params, train.HEAD, mode, str(model_dir), display or Silent()
    )


if __name__ == "__main__":
    with evonorm_tf.using(xla=False):  # As in the process of the tests.
        run(sys.argv[1], VARIANTS[sys.argv[2]](), sys.argv[3])
