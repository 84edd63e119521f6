"""Classification experiments by name."""

from official.modeling import optimization

from classification import settings
from classification.settings import Data, Model, Task
from evonorm_tf import nets
from training import config, driver
from training.schedule import UNSET, Schedule


def _experiment(
    model: Model, data: Data, test_split: str, schedule: Schedule
) -> config.Experiment:
    """Returns what the experiments below have in common."""
    test = data.replace(split=test_split, is_training=False)
    # The schedule sets the rate.
    sgd = {"type": "sgd", "sgd": {"momentum": 0.9, "nesterov": True}}
    return driver.experiment(
        Task(
            model=model,
            train_data=data,
            validation_data=test,
            schedule=schedule,
        ),
        optimizer_config=optimization.OptimizationConfig({"optimizer": sgd}),
        summary_interval=UNSET,
        validation_interval=UNSET,
        checkpoint_interval=UNSET,
        best_checkpoint_export_subdir="best",
        best_checkpoint_eval_metric="accuracy",
    )


@config.register("digits_resnet")
def digits_resnet() -> config.Experiment:
    """A small ResNet on scikit-learn's 8x8 digits: seconds on a CPU."""
    data = Data(
        dataset="digits",
        global_batch_size=64,
        augmentation="crop",
        mean=[0.5],
        std=[0.25],
    )
    model = Model(network="resnet8_cifar", num_classes=10)
    model.norm_act.groups = 8
    schedule = Schedule(
        epochs=10, base_learning_rate=0.1, base_batch_size=64, warmup_epochs=1
    )
    return _experiment(model, data, "test", schedule)


@config.register("cifar10_resnet")
def cifar10_resnet() -> config.Experiment:
    """ResNet-20 on CIFAR-10, section 4.2 of arXiv:1512.03385."""
    data = Data(dataset="cifar10", global_batch_size=128)
    model = Model(network="resnet20_cifar", num_classes=10)
    # 16 to 64 channels: 32 groups would be mostly single channels.
    model.norm_act.groups = 8
    schedule = Schedule(epochs=180, base_learning_rate=0.1, base_batch_size=128)
    return _experiment(model, data, "test", schedule)


@config.register("imagenet")
def imagenet() -> config.Experiment:
    """ResNet-50, section 6 of the paper's recipe: 90 epochs at batch 1024.

    All ImageNet recipes in `configs/classification` start from this.
    """
    data = Data(dataset="imagenet2012", global_batch_size=1024, image_size=None)
    schedule = Schedule(decay="stepwise", validation_epochs=1.0)
    return _experiment(Model(), data, "validation", schedule)


def fill_in(params: settings.Task) -> None:
    """Fills in the network's own settings where the config does not set them.

    Args:
      params: the task's config, changed in place.

    Raises:
      ValueError: if the network is unknown.
    """
    network = nets.get(params.model.network)
    if params.model.dropout is None:
        params.model.dropout = network.dropout
    if params.model.stochastic_depth is None:
        params.model.stochastic_depth = network.stochastic_depth
    for part in (params.train_data, params.validation_data):
        if part.image_size is None:
            part.image_size = network.image_size
