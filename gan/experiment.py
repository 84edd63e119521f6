"""Config classes and named experiments of a GAN run."""

import dataclasses
from dataclasses import field

from official.core import config_definitions
from official.modeling import hyperparams

from training import config, driver


@dataclasses.dataclass
class Model(hyperparams.Config):
    """The two networks.

    Attributes:
      architecture: a key of `gan.architectures.ARCHITECTURES`.
      generator_width: ch, the factor of the architecture's multiples.
      discriminator_width: the same for the discriminator.
      latent_size: entries of z.
      class_embedding: entries of the class embedding that all of the
        generator's norms share; 0 for a separate table for each.
      hierarchical: whether each block gets a part of z in addition to the
        embedding; in BigGAN-deep, the whole of it.
      num_classes: number of classes.
      initializer: "orthogonal" or "normal", with standard deviation 0.02.
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
      dataset: "digits" or "jpeg_digits" (included in scikit-learn; the second
        as image files), or a TFDS name. A dataset whose images have no fixed
        size, or that does not fit in memory, is decoded during training.
      split: in TFDS's notation.
      tfds_data_dir: the directory that contains <dataset>/<version>/; if
        empty, ~/tensorflow_datasets.
      global_batch_size: images per optimizer step, over all replicas.
      shuffle_buffer_size: number of image files that are shuffled together,
        if a dataset is too large for memory.
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
      beta_2: decay of the second moment.
      epsilon: added to the square root of the second moment.
    """

    learning_rate: float = 1e-4
    beta_1: float = 0.0
    beta_2: float = 0.999
    epsilon: float = 1e-6


@dataclasses.dataclass
class Evaluation(hyperparams.Config):
    """How samples are generated and evaluated.

    Attributes:
      samples: number of generated images.
      split: split of the real images for comparison; empty for the training
        split.
      batch_size: images at once on a replica.
      splits: number of parts of the class score, for mean and deviation.
      kernel_block: features per block of the kernel distance; 0 for none.
      kernel_blocks: maximum number of blocks; fewer if there are fewer samples.
      standing_batches: number of batches over which layers with batch
        statistics average before images are generated.
      settle_iterations: of the power method on the averaged weights.
      extractor: "own", a small classifier trained on the run's own data;
        "classifier", any saved by tf_keras; or "inception", for FID.
      path: the extractor's file or folder; not for "own".
      classifier_steps: training steps of the run's own classifier.
      sha256: what its hash must be, or begin with; empty for any.
      reference: file of the real images' statistics, created if needed; empty
        for a file in the run's folder.
      seed: of the latents.
      grid_rows: images per class in the grid of samples.
      truncations: of the sweep, one row of images for each: above 0 and at
        most 1, factors of normals that are truncated at 2 standard deviations.
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
        default_factory=lambda: [1.0, 0.7, 0.5, 0.3, 0.1]
    )


@dataclasses.dataclass
class Task(config_definitions.TaskConfig):
    """A GAN task. A step of the run is a step of the generator.

    Attributes:
      discriminator_steps: steps of the discriminator per step of the generator.
      accumulation: parts into which a batch is split; gradients are averaged.
      average_decay: of the averaged generator.
      average_start: step before which the average is a copy.
      sigma_limit: largest singular value of a kernel at which the run stops:
        they explode when a GAN collapses (arXiv:1809.11096, section 4). 0 for
        none. The value is our choice.
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
    return driver.experiment(
        task, train_steps=3000, validation_interval=1000, steps_per_loop=50
    )


@config.register("biggan")
def biggan() -> config.Experiment:
    """BigGAN at 128 px; a recipe in configs/gan defines data and the rest.

    Settings from arXiv:1809.11096: Adam(0, 0.999) at 5e-5 and 2e-4, two steps
    of the discriminator, average 0.9999, batch 2048. These were not checked
    against the paper's text, and the length is our choice.
    """
    task = Task(
        train_data=Data(global_batch_size=2048),
        generator_optimizer=Adam(learning_rate=5e-5),
        discriminator_optimizer=Adam(learning_rate=2e-4),
        discriminator_steps=2,
    )
    return driver.experiment(
        task, train_steps=150_000, validation_interval=5000
    )
