"""A GAN of 8 px and a few channels, for the tests of this folder.

    python -m tests.gan.small MODEL_DIR STEPS CPU_REPLICAS

trains it, for a test of several processes.
"""

import contextlib
import sys

import tensorflow as tf

import evonorm_tf
from gan import architectures, train
from training import config, driver

TINY = architectures.Architecture(
    resolution=8,
    generator=(4, 4),
    discriminator=(2, 4),
    pooled=1,
    generator_attention=8,
)


class Silent:
    """A `progress.Display` that keeps what it was told in `lines`."""

    live = False

    def __init__(self):
        self.lines = []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def say(self, text):
        """As `progress.Display.say`."""
        self.lines.append(text)

    def update(self, share, note, seconds_left):
        """As `progress.Display.update`."""
        self.lines.append(f"{share:.2f} {note} {seconds_left:.0f}")


def parameters(norm_act="evonorm_b0", task=None, **trainer):
    """Digits at 8 px, two steps of 8 images."""
    architectures.ARCHITECTURES.setdefault("tiny", TINY)
    model = {
        "architecture": "tiny",
        "generator_width": 4,
        "discriminator_width": 4,
        "latent_size": 8,
        "class_embedding": 8,
    }
    settings = {
        "model": model,
        "train_data": {"global_batch_size": 8},
        "discriminator_steps": 1,
        "average_start": 1,
        "average_decay": 0.5,
        "evaluation": {
            "kernel_block": 20,
            "classifier_steps": 10,
            "samples": 100,
            "batch_size": 20,
            "standing_batches": 2,
            "settle_iterations": 5,
        },
    }
    loop = {
        "train_steps": 2,
        "steps_per_loop": 1,
        "checkpoint_interval": 1,
        "validation_interval": 2,
        "max_to_keep": 20,
    }
    return config.parse(
        "digits_biggan",
        norm_act=norm_act,
        params_override={
            "task": settings | (task or {}),
            "trainer": loop | trainer,
        },
    )


@contextlib.contextmanager
def eagerly():
    """For functions that run once or twice, which tracing takes longer."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def make(model_dir, params, mode="train", display=None):
    """Makes the run, from where `model_dir` left off."""
    return driver.run(
        params, train.HEAD, mode, str(model_dir), display or Silent()
    )


def _main(model_dir, steps, cpu_replicas):
    params = parameters("evonorm_s0", train_steps=int(steps))
    params.runtime.cpu_replicas = int(cpu_replicas)
    shown = Silent()
    # Compilation, tested with the layers, would be most of the time.
    with evonorm_tf.using(xla=False):
        make(model_dir, params, "train_and_eval", shown)
    print(*shown.lines, sep="\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
