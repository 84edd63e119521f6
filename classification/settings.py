"""The config classes of a classification run."""

import dataclasses
from dataclasses import field

from official.core import config_definitions
from official.modeling import hyperparams

from training import config
from training.schedule import Schedule


@dataclasses.dataclass
class Model(hyperparams.Config):
    """The network.

    Attributes:
      network: one of `evonorm_tf.nets.names()`.
      width: multiplier of the channels.
      max_depth: maximum number of blocks per stage; 0 for all.
      num_classes: number of classes.
      dropout: rate before the last layer; None for the network's default.
      stochastic_depth: rate of stochastic depth (arXiv:1603.09382): the
        fraction rate * i / n of the samples skips block i of n, counted from
        0; None for the network's default.
      norm_act: the layer after (or before) every convolution.
    """

    network: str = "resnet50"
    width: float = 1.0
    max_depth: int = 0
    num_classes: int = 1000
    dropout: float | None = None
    stochastic_depth: float | None = None
    norm_act: config.NormAct = field(default_factory=config.NormAct)


@dataclasses.dataclass
class Data(hyperparams.Config):
    """A split of a dataset, and how it is read.

    Attributes:
      dataset: "digits" (included in scikit-learn), "jpeg_digits" (the same as
        JPEG files of varying sizes; of both, only digits below the model's
        num_classes), "tfrecords" or "folder" (see `path`), or a TFDS name such
        as "cifar10", optionally with its version, "cifar10:3.0.2".
      split: in TFDS's notation, of the newest version by default; "train" or
        "test" for digits; replaces {split} in `path`.
      path: for "tfrecords", a file pattern in the standard ImageNet layout,
        DIR/{split}-*; for "folder", a folder with one folder per class,
        DIR/{split}. By default, validation data use the path of the training
        data, which must then contain {split}.
      tfds_data_dir: the directory that contains <dataset>/<version>/; if
        empty, ~/tensorflow_datasets. By default, validation data use that of
        the training data.
      label_offset: subtracted from the labels of "tfrecords": 1 for the
        classic ImageNet files, whose labels are 1 to 1000.
      examples: required number of records of "tfrecords"; another number is an
        error. 0 for any number.
      global_batch_size: images per step, over all replicas.
      is_training: whether to shuffle, augment and repeat.
      augmentation: "none", "crop" or "crop_flip". Images that are resized are
        cropped to a random part of 8 to 100 %; others are padded first.
      randaugment_layers: number of RandAugment operations per image
        (arXiv:1909.13719); 0 for none. For its ResNets, the paper only says
        that they used RandAugment; 2 at magnitude 9 is the ResNet-50 of
        arXiv:1909.13719.
      randaugment_magnitude: of those operations, 0 to 10; larger values are
        possible.
      mixup_alpha: MixUp (arXiv:1710.09412) with Beta(alpha, alpha); 0 for none.
      cutmix_alpha: CutMix (arXiv:1905.04899) with Beta(alpha, alpha); 0 for
        none. With both, each image gets either with probability 1/2.
      augmenter: implementation of RandAugment, MixUp and CutMix: "stateless"
        (ours) or "official" (the Model Garden's; its MixUp and CutMix use a
        global generator, so a resumed run differs from an uninterrupted one).
      image_size: side in pixels to which images are resized; None for the
        network's default; 0 keeps a dataset with images of one size, and is
        224 for others.
      mean: subtracted from the image in [0, 1], one value or one per channel.
      std: divisor after that.
      seed: of order and augmentation.
      shuffle_buffer_size: number of records, over all hosts, for TFRecords
        that are not kept in memory; other datasets are shuffled as a whole.
    """

    dataset: str = ""
    split: str = "train"
    path: str = ""
    tfds_data_dir: str = ""
    label_offset: int = 0
    examples: int = 0
    global_batch_size: int = 128
    is_training: bool = True
    augmentation: str = "crop_flip"
    randaugment_layers: int = 0
    randaugment_magnitude: float = 9.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    augmenter: str = "stateless"
    image_size: int | None = 0
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    seed: int = 0
    shuffle_buffer_size: int = 10_000


@dataclasses.dataclass
class Task(config_definitions.TaskConfig):
    """A classification task.

    Attributes:
      weight_decay: L2: this times half the sum of squares of all trainable
        weights except those of NormAct; see `task.decayed_weights`.
      label_smoothing: fraction of a label that is spread over all classes.
      seed: of the initial weights.
      schedule: length and learning rate.
    """

    model: Model = field(default_factory=Model)
    train_data: Data = field(default_factory=Data)
    validation_data: Data = field(default_factory=Data)
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    seed: int = 0
    schedule: Schedule = field(default_factory=Schedule)
