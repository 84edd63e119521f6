"""What a classification run is made of: its config classes."""

import dataclasses
from dataclasses import field

from official.core import config_definitions
from official.modeling import hyperparams

from training import config
from training.schedule import Schedule

_RGB_MEAN = [0.485, 0.456, 0.406]
_RGB_STD = [0.229, 0.224, 0.225]


@dataclasses.dataclass
class Model(hyperparams.Config):
    """The network.

    Attributes:
      network: one of `evonorm_tf.nets.names()`.
      width: width multiplier.
      max_depth: at most so many blocks a stage; 0 keeps them all.
      num_classes: classes to tell apart.
      dropout: rate before the last layer; None for the network's own.
      stochastic_depth: share of the samples that skip the last block, less
        linearly towards the first (arXiv:1603.09382); None for the
        network's own.
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
    """A split of a data set, and how it is read.

    Attributes:
      dataset: "digits" (inside scikit-learn), "jpeg_digits" (the same as
        JPEG files of many sizes; of both, those below the model's
        num_classes), "tfrecords" or "folder" (see `path`), or a TFDS name,
        "cifar10" or with its version "cifar10:3.0.2".
      split: in TFDS's notation, the newest version's; "train" or "test" for
        digits; what stands for {split} in `path`.
      path: of "tfrecords", a file pattern in the standard ImageNet layout,
        DIR/{split}-*; of "folder", a folder of one folder a class,
        DIR/{split}. Validation data without one takes that of the training
        data, which must then hold {split}.
      tfds_data_dir: the directory that holds <dataset>/<version>/;
        ~/tensorflow_datasets when empty. Validation data without one takes
        that of the training data.
      label_offset: subtracted from the labels of "tfrecords": 1 for the
        classic ImageNet files, whose labels are 1 to 1000.
      examples: how many records "tfrecords" must hold; another number is an
        error. 0: any number.
      global_batch_size: images a step, over all replicas.
      is_training: shuffle, augment and repeat.
      augmentation: "none", "crop" or "crop_flip". Images that are resized
        are cropped to a random part of 8 to 100 %, others padded first.
      randaugment_layers: RandAugment operations an image (arXiv:1909.13719);
        0 switches it off. The paper says of its ResNets only that they used
        RandAugment; 2 at magnitude 9 is arXiv:1909.13719's own ResNet-50.
      randaugment_magnitude: of those operations, 0 to 10; above it stronger
        still.
      mixup_alpha: MixUp (arXiv:1710.09412) with Beta(alpha, alpha); 0 off.
      cutmix_alpha: CutMix (arXiv:1905.04899) with Beta(alpha, alpha); 0 off.
        With both on, each image gets one of the two, by a fair coin.
      augmenter: whose RandAugment, MixUp and CutMix: "stateless" (ours) or
        "official" (the Model Garden's; its MixUp and CutMix draw from a
        global generator, so a resumed run differs from an unbroken one).
      image_size: side in pixels to resize to; None is the network's own; 0
        keeps a set whose images share one size as it is, and is 224 for
        others.
      mean: subtracted from the image in [0, 1], one value or one a channel.
      std: divided by after that.
      seed: of order and augmentation.
      shuffle_buffer_size: records, over all hosts, for TFRecords that are not
        held in memory; other sets are shuffled whole.
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
    mean: list[float] = field(default_factory=lambda: list(_RGB_MEAN))
    std: list[float] = field(default_factory=lambda: list(_RGB_STD))
    seed: int = 0
    shuffle_buffer_size: int = 10_000


@dataclasses.dataclass
class Task(config_definitions.TaskConfig):
    """A classification task.

    Attributes:
      weight_decay: L2: this times half the sum of squares of all that is
        trained but what NormAct owns; see `task.decayed_weights`.
      label_smoothing: share of a label spread evenly over all classes.
      seed: of the weights' initial values.
      schedule: length and learning rate.
    """

    model: Model = field(default_factory=Model)
    train_data: Data = field(default_factory=Data)
    validation_data: Data = field(default_factory=Data)
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    seed: int = 0
    schedule: Schedule = field(default_factory=Schedule)
