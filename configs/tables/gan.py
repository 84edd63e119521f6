"""The paper's image-synthesis table, and our CIFAR-10 one.

"Evolving Normalization-Activation Layers", arXiv:2004.02967v1, table 5 (grade
A): BigGAN-deep on ImageNet at 128 px with the generator's layers replaced, the
median and the best of three seeds.
"""

from configs.tables.rows import Column, Metric, Recipe, Table, block

IS = Metric("IS", "inception_score", decimals=2)
FID = Metric("FID", "fid", decimals=2)
# A run has one seed: what is best of three is no run's number.
IS_BEST, FID_BEST = Metric("IS, best of 3"), Metric("FID, best of 3")
# Through a small classifier, and before the first step too: never FID and IS.
_KEY = "classifier_distance"
START = Metric("classifier distance at step 0", f"{_KEY}_at_start", decimals=2)
DISTANCE = Metric("classifier distance at the end", _KEY, decimals=2)
RATIO = Metric("end / start", f"{_KEY}_over_start", decimals=2)
SCORE = Metric("classifier score", "classifier_score", decimals=2)
_DATA = "task.train_data.tfds_data_dir=DIR"
_COMPARE = (
    "Numbers compare within this table where the classifier's sha256 is the "
    "same, and with nothing else."
)
_COMMAND = (
    "A row by `python -m gan.train --row={}/LAYER "
    f"--params_override={_DATA}`."
)


def _imagenet(name: str, file: str) -> Recipe:
    """A recipe of configs/gan on ImageNet at 128 px."""
    return Recipe(
        id=f"imagenet128/{name}",
        head="gan",
        experiment="biggan",
        files=("imagenet128.yaml", file),
        examples=1_281_167,
        data=f"{_DATA},task.evaluation.path=FILE",
    )


def _cifar(name: str, file: str) -> Recipe:
    """A recipe of configs/gan on CIFAR-10."""
    return Recipe(
        id=f"cifar10/{name}",
        head="gan",
        experiment="biggan",
        files=(file,),
        examples=50_000,
        data=_DATA,
    )


BIGGAN = _imagenet("biggan", "biggan128.yaml")
BIGGAN_DEEP = _imagenet("biggan_deep", "biggan_deep128.yaml")
CIFAR10 = _cifar("biggan", "cifar10.yaml")
CIFAR10_SMALL = _cifar("biggan_small", "cifar10_small.yaml")


def _columns(recipe: Recipe, *metrics: Metric) -> tuple[Column, ...]:
    return tuple(Column(metric.name, recipe, metric) for metric in metrics)


SYNTHESIS = Table(
    "BigGAN-deep on ImageNet at 128 px: IS and FID, arXiv:2004.02967v1 table 5 "
    "(grade A)",
    _columns(BIGGAN_DEEP, IS, IS_BEST, FID, FID_BEST),
    block(
        """
        bn_relu     118.77  124.01  7.85   7.29
        evonorm_b0  101.13  113.63  6.91   5.87
        evonorm_s0  104.64  113.96  6.86   6.26
        gn_relu      99.09  -       8.14   -
        ln_relu      91.56  -       8.35   -
        pn_relu      88.58  -      10.41   -
        """,
        "A",
        "v1 table 5",
    ),
    "IS and FID are medians of three seeds. Higher IS and lower FID are "
    "better; both EvoNorms trade the one for the other.",
)
BIGGAN_128 = Table(
    "BigGAN on ImageNet at 128 px: IS and FID",
    _columns(BIGGAN, IS, FID),
    block(
        """
        bn_relu     - -
        evonorm_b0  - -
        evonorm_s0  - -
        """,
        "",
        "",
    ),
    "Ours alone: the paper's table is of BigGAN-deep.",
)
CIFAR10_DISTANCES = Table(
    "A narrow BigGAN on CIFAR-10: distance and score through a small "
    "classifier, not FID and IS",
    _columns(CIFAR10_SMALL, START, DISTANCE, RATIO, SCORE),
    block(
        """
        bn_relu     - - - -
        evonorm_b0  - - - -
        evonorm_s0  - - - -
        """,
        "",
        "",
    ),
    f"Ours alone, and small. {_COMPARE} The picture, by `python -m gan.plot`, "
    "has the curves, and a class a column of what the averaged generators make "
    f"at the end. {_COMMAND.format(CIFAR10_SMALL.id)}",
    figure="images/gan_cifar10.png",
)
CIFAR10_FULL = Table(
    "BigGAN on CIFAR-10: distance and score through a small classifier",
    _columns(CIFAR10, START, DISTANCE, RATIO, SCORE),
    block(
        """
        bn_relu     - - - -
        evonorm_b0  - - - -
        evonorm_s0  - - - -
        """,
        "",
        "",
    ),
    f"Ours alone. {_COMPARE} {_COMMAND.format(CIFAR10.id)}",
)
TABLES = [SYNTHESIS, CIFAR10_DISTANCES, BIGGAN_128, CIFAR10_FULL]
