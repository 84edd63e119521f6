"""What a GAN run is: config classes and named experiments."""

import dataclasses
from dataclasses import field

from official.core import config_definitions
from official.modeling import hyperparams

from training import config, driver, strategy


@dataclasses.dataclass
class Model(hyperparams.Config):
    """The two networks.

    Attributes:
      architecture: a key of `gan.architectures.ARCHITECTURES`.
      generator_width: ch, what the architecture's multiples multiply.
      discriminator_width: the same of the discriminator.
      latent_size: entries of z.
      class_embedding: entries of the class embedding that all the
        generator's norms share; 0 gives each a table of its own.
      hierarchical: each block gets a part of z, beside the embedding; in
        BigGAN-deep the whole of it.
      num_classes: classes to make.
      initializer: "orthogonal" or "normal", of standard deviation 0.02.
      norm_act: the generator's layer; the discriminator has none.
    """

    architecture: str = "biggan128"
    generator_width: int = 96
    discriminator_width: int = 96
    latent_size: int = 120
    class_embedding: int = 128
    hierarchical: bool = True
    num_classes: int = 1000
    initializer: str = "orthogonal"
    norm_act: config.NormAct = field(
        default_factory=lambda: config.NormAct(synchronized=True)
    )


@dataclasses.dataclass
class Data(hyperparams.Config):
    """The real images.

    Attributes:
      dataset: "digits" or "jpeg_digits" (inside scikit-learn; the second as
        image files), or a TFDS name. A set whose images have no fixed size,
        or that does not fit in memory, is decoded while training.
      split: in TFDS's notation.
      tfds_data_dir: the directory that holds <dataset>/<version>/;
        ~/tensorflow_datasets when empty.
      global_batch_size: images of one optimizer step, over all replicas.
      shuffle_buffer_size: image files that are shuffled among each other,
        where a set is too large for memory.
      seed: of their order.
    """

    dataset: str = ""
    split: str = "train"
    tfds_data_dir: str = ""
    global_batch_size: int = 256
    shuffle_buffer_size: int = 8192
    seed: int = 0


@dataclasses.dataclass
class Adam(hyperparams.Config):
    """An Adam optimizer.

    Attributes:
      learning_rate: constant.
      beta_1: decay of the first moment.
      beta_2: decay of the second.
      epsilon: added to the root of the second.
    """

    learning_rate: float = 1e-4
    beta_1: float = 0.0
    beta_2: float = 0.999
    epsilon: float = 1e-6


@dataclasses.dataclass
class Evaluation(hyperparams.Config):
    """How samples are made and measured.

    Attributes:
      samples: images made.
      split: of the real images that they are measured against; the training
        split when empty.
      batch_size: images at once on a replica.
      splits: of the class score, over which its mean and deviation are.
      kernel_block: features a block of the kernel distance; 0 for none.
      kernel_blocks: blocks, at most; fewer where there are fewer samples.
      standing_batches: batches that layers with batch statistics average
        theirs over before images are made.
      settle_iterations: of the power method on the averaged weights.
      extractor: "own", a small classifier trained on the run's own data;
        "classifier", any that tf_keras saved; or "inception", for FID.
      path: the extractor's file or folder; none for "own".
      classifier_steps: that the run's own classifier is trained for.
      sha256: what its hash must be, or begin with; anything when empty.
      reference: file of the real images' statistics, made where it is not
        there; in the run's folder when empty.
      seed: of the latents.
      grid_rows: images a class in the grid of samples.
      truncations: thresholds of the sweep, a row of pictures each.
    """

    samples: int = 50_000
    split: str = ""
    batch_size: int = 100
    splits: int = 10
    kernel_block: int = 1000
    kernel_blocks: int = 10
    standing_batches: int = 16
    settle_iterations: int = 50
    extractor: str = "own"
    path: str = ""
    classifier_steps: int = 600
    sha256: str = ""
    reference: str = ""
    seed: int = 1
    grid_rows: int = 8
    truncations: list[float] = field(
        default_factory=lambda: [2.0, 1.0, 0.7, 0.5, 0.3, 0.1]
    )


@dataclasses.dataclass
class Task(config_definitions.TaskConfig):
    """A GAN task. A step of the run is a step of the generator.

    Attributes:
      discriminator_steps: of the discriminator, for each of the generator.
      accumulation: parts that a batch is cut into; gradients are their mean.
      average_decay: of the averaged generator.
      average_start: step before which the average is a copy.
      sigma_limit: a kernel's largest singular value that stops the run: they
        explode where a GAN collapses (arXiv:1809.11096, section 4). 0 for
        none. The value is ours.
      seed: of weights and latents.
    """

    model: Model = field(default_factory=Model)
    train_data: Data = field(default_factory=Data)
    generator_optimizer: Adam = field(default_factory=Adam)
    discriminator_optimizer: Adam = field(
        default_factory=lambda: Adam(learning_rate=4e-4)
    )
    discriminator_steps: int = 1
    accumulation: int = 1
    average_decay: float = 0.9999
    average_start: int = 20_000
    sigma_limit: float = 1000.0
    seed: int = 0
    evaluation: Evaluation = field(default_factory=Evaluation)


def _experiment(task: Task, **trainer: int) -> config.Experiment:
    return config.Experiment(
        task=task,
        trainer=driver.trainer_config(**trainer),
        runtime=strategy.Runtime(),
    )


@config.register("digits_biggan")
def digits_biggan() -> config.Experiment:
    """A small BigGAN on scikit-learn's digits at 32 px: minutes on a CPU."""
    model = Model(
        architecture="biggan32",
        generator_width=16,
        discriminator_width=16,
        latent_size=80,
        class_embedding=64,
        num_classes=10,
    )
    # 64 channels: 32 groups would leave two channels each.
    model.norm_act.min_group_size = 4
    task = Task(
        model=model,
        train_data=Data(dataset="digits", global_batch_size=64),
        generator_optimizer=Adam(learning_rate=2e-4),
        average_decay=0.99,
        average_start=100,
        evaluation=Evaluation(samples=1340),
    )
    return _experiment(
        task, train_steps=3000, validation_interval=1000, steps_per_loop=50
    )


@config.register("biggan")
def biggan() -> config.Experiment:
    """BigGAN at 128 px; a recipe in configs/gan names data and the rest.

    Settings after arXiv:1809.11096: Adam(0, 0.999) at 5e-5 and 2e-4, two
    steps of the discriminator, average 0.9999, batch 2048. Not checked
    against the paper's text, and the length is ours: not its results'.
    """
    task = Task(
        train_data=Data(global_batch_size=2048),
        generator_optimizer=Adam(learning_rate=5e-5),
        discriminator_optimizer=Adam(learning_rate=2e-4),
        discriminator_steps=2,
    )
    return _experiment(task, train_steps=150_000, validation_interval=5000)
