"""What a classification run is made of: its config classes."""

import dataclasses
from dataclasses import field

from official.core import config_definitions
from official.modeling import hyperparams

from evonorm_tf.training import config
from evonorm_tf.training.schedule import Schedule

_RGB_MEAN = [0.485, 0.456, 0.406]
_RGB_STD = [0.229, 0.224, 0.225]


@dataclasses.dataclass
class Model(hyperparams.Config):
    """The network.

    Attributes:
      network: a key of `evonorm_tf.nets.resnet.SIZES`.
      width: width multiplier.
      max_depth: at most so many blocks a stage; 0 keeps them all.
      num_classes: classes to tell apart.
      dropout: rate before the last layer.
      norm_act: the layer after (or before) every convolution.
    """

    network: str = "resnet50"
    width: float = 1.0
    max_depth: int = 0
    num_classes: int = 1000
    dropout: float = 0.0
    norm_act: config.NormAct = field(default_factory=config.NormAct)


@dataclasses.dataclass
class Data(hyperparams.Config):
    """A split of a data set, and how it is read.

    Attributes:
      dataset: "digits" (inside scikit-learn) or any TFDS name.
      split: in TFDS's notation.
      tfds_data_dir: the directory that holds <dataset>/<version>/;
        ~/tensorflow_datasets when empty. Validation data without one takes
        that of the training data.
      global_batch_size: images a step, over all replicas.
      is_training: shuffle, augment and repeat.
      augmentation: "none", "crop" or "crop_flip"; images that are resized
        get a random part of themselves and a flip unless it is "none".
      image_size: side in pixels to resize to; 0 keeps a set whose images
        share one size as it is, and is 224 for others.
      mean: subtracted from the image in [0, 1], one value or one a channel.
      std: divided by after that.
      seed: of order and augmentation.
      shuffle_buffer_size: for sets that are not held in memory.
    """

    dataset: str = ""
    split: str = "train"
    tfds_data_dir: str = ""
    global_batch_size: int = 128
    is_training: bool = True
    augmentation: str = "crop_flip"
    image_size: int = 0
    mean: list[float] = field(default_factory=lambda: list(_RGB_MEAN))
    std: list[float] = field(default_factory=lambda: list(_RGB_STD))
    seed: int = 0
    shuffle_buffer_size: int = 10_000


@dataclasses.dataclass
class Task(config_definitions.TaskConfig):
    """A classification task.

    Attributes:
      weight_decay: L2, on all that is trained but what NormAct owns.
      label_smoothing: share of a label spread over the classes.
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
