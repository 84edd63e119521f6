r"""Effect of scaling the weights of one convolution, for every layer.

    python -m benchmarks.scale_invariance \
        --output=docs/images/scale_invariance.png \
        --json=docs/runs/scale-invariance.json

A small version of the paper's analysis of scale invariance. The weights W of a
convolution whose output is read only by a norm-act layer are replaced by a*W.
On one fixed batch, in training mode (batch statistics) and without weight
decay, this measures

    loss change        L(a*W) - L(W)
    own gradient       |dL/dW at a*W| / |dL/dW at W|
    other gradients    the same ratio, of all other convolutions and the
                       classifier together

If the layer's output does not depend on the scale of its input, the loss does
not either, the ratio of the other gradients is 1, and that of its own 1/a: the
chain rule gives dL(a*W)/dW = a * L'(a*W) = L'(W). Each such convolution is
scaled alone; the figure and the table show the mean over them (the geometric
mean for gradient ratios). `trained` is the same network after some hundred
steps of the digits recipe (of CIFAR-10's with --tfds_data_dir).
"""

import argparse
import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from benchmarks import scale_report
from classification import task as task_lib
from evonorm_tf import catalog, legacy, plots
from training import config, progress

FACTORS = tuple(2.0**k for k in range(-3, 4))
Evaluate = Callable[[], tuple[tf.Tensor, list[tf.Tensor]]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of the analysis, equal for every layer.

    Attributes:
      tfds_data_dir: folder with CIFAR-10; empty for the digits.
      network: a name of `evonorm_tf.nets`.
      steps: of training.
      batch: number of images for loss and gradients.
      seed: of weights, order and augmentation.
      epsilon: inside the layers' square roots; the invariance is exact
        without it.
    """

    tfds_data_dir: str = ""
    network: str = "resnet8_cifar"
    steps: int = 300
    batch: int = 256
    seed: int = 0
    epsilon: float = 1e-5


def inner_convolutions(model: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    """Returns the convolutions that are read only by a norm-act layer.

    If a residual sum reads a convolution too, scaling it would change the sum
    with any layer.
    """
    found = []
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.Conv2D):
            readers = [node.outbound_layer for node in layer.outbound_nodes]
            norm = [isinstance(r, legacy.NormAct) for r in readers]
            if len(readers) == 1 and norm[0]:
                found.append(layer)
    return found


def evaluation(
    model: tf_keras.Model, images: tf.Tensor, labels: tf.Tensor
) -> Evaluate:
    """Returns a function of the current weights: loss and gradients.

    Args:
      model: [N, H, W, C] images to [N, classes] logits.
      images: the fixed batch.
      labels: [N]

    Returns:
      The function. It returns the mean cross-entropy and one gradient for each
      of `weights(model)`.
    """
    kernels = weights(model)

    @tf.function(autograph=False)
    def evaluate():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            logits = model(images, training=True)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels, logits=logits
            )
            loss = tf.reduce_mean(each)
        return loss, tape.gradient(loss, kernels)

    return evaluate


def weights(model: tf_keras.Model) -> list[tf.Variable]:
    """Returns the kernels of all convolutions and of the classifier."""
    return [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]


def measure(
    model: tf_keras.Model, evaluate: Evaluate, convolution: Any
) -> list[dict[str, float]]:
    """Returns one row per factor, and restores the convolution.

    Returns:
      Rows of factor, loss_change, own_gradient and other_gradients.
    """
    kernel = convolution.kernel
    own = [k is kernel for k in weights(model)].index(True)
    before = kernel.value()
    rows = []
    for factor in (1.0, *FACTORS):
        kernel.assign(before * factor)
        loss, gradients = evaluate()
        rows.append(
            {
                "factor": factor,
                "loss": float(loss),
                "own": float(tf.norm(gradients[own])),
                "others": float(
                    tf.linalg.global_norm(
                        gradients[:own] + gradients[own + 1 :]
                    )
                ),
            }
        )
    kernel.assign(before)
    unscaled = rows.pop(0)
    return [
        {
            "factor": row["factor"],
            "loss_change": row["loss"] - unscaled["loss"],
            "own_gradient": _ratio(row["own"], unscaled["own"]),
            "other_gradients": _ratio(row["others"], unscaled["others"]),
        }
        for row in rows
    ]


def _ratio(value: float, unscaled: float) -> float:
    """Returns the ratio; NaN if there was no gradient."""
    return value / unscaled if unscaled else math.nan


def analyse(layer: str, settings: Settings) -> dict[str, Any]:
    """Builds, measures, trains and measures one network.

    Args:
      layer: a catalog name.
      settings: of the analysis.

    Returns:
      The layer's name, and for each of `scale_report.STATES` the loss on the
      fixed batch and the rows of `measure`, the mean over convolutions.

    Raises:
      ValueError: if the network is unknown or has no such convolution.
    """
    tf_keras.backend.clear_session()
    params = _experiment(layer, settings)
    task = task_lib.prepare(params)
    tf_keras.utils.set_random_seed(settings.seed)
    model = task.build_model()
    plain = params.task.train_data.replace(
        global_batch_size=settings.batch, augmentation="none"
    )
    images, labels = next(iter(task.build_inputs(plain)))
    evaluate = evaluation(model, images, labels["label"])
    inner = inner_convolutions(model)
    if not inner:
        raise ValueError(
            "This network has no convolution that is read only by a norm-act "
            f"layer. Received: network={settings.network!r}"
        )
    result: dict[str, Any] = {"layer": layer, "convolutions": len(inner)}
    for state in scale_report.STATES:
        if state == "trained":
            _train(task, model, params, settings.steps)
        tables = [measure(model, evaluate, each) for each in inner]
        result[state] = {
            "loss": float(evaluate()[0]),
            "rows": scale_report.mean_over(tables),
        }
    return result


def _experiment(layer: str, settings: Settings) -> config.Experiment:
    data = {"seed": settings.seed}
    name = "digits_resnet"
    if settings.tfds_data_dir:
        name = "cifar10_resnet"
        data["tfds_data_dir"] = settings.tfds_data_dir
    model = {
        "network": settings.network,
        "norm_act": {"epsilon": settings.epsilon},
    }
    changes = {
        "task": {"seed": settings.seed, "train_data": data, "model": model},
        "trainer": {"train_steps": settings.steps},
    }
    return config.parse(name, norm_act=layer, params_override=changes)


def _train(
    task: task_lib.Task,
    model: tf_keras.Model,
    params: config.Experiment,
    steps: int,
) -> None:
    """Trains with the recipe's own steps; a NaN loss is kept."""
    optimizer = task.create_optimizer(params.trainer.optimizer_config)
    step = tf.function(task.train_step, autograph=False)
    for batch in task.build_inputs(params.task.train_data).take(steps):
        step(batch, model, optimizer)


def main() -> None:
    """Analyzes all layers, prints, draws and records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, help="the picture")
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    parser.add_argument(
        "--rows", nargs="+", default=catalog.names(), metavar="LAYER"
    )
    for field in dataclasses.fields(Settings):
        parser.add_argument(
            f"--{field.name}", type=field.type, default=field.default
        )
    args = parser.parse_args()
    names = [catalog.get(name).name for name in args.rows]
    settings = Settings(
        **{f.name: getattr(args, f.name) for f in dataclasses.fields(Settings)}
    )
    began = time.monotonic()
    print(scale_report.header(), flush=True)
    results = []
    for name in names:
        results.append(analyse(name, settings))
        print(scale_report.line(results[-1]), flush=True)
    data = "cifar10" if settings.tfds_data_dir else "digits"
    note = (
        f"{settings.network} on {data}, {settings.steps} training steps, "
        f"seed {settings.seed}; mean over the {results[0]['convolutions']} "
        "convolutions that only a norm-act layer reads"
    )
    seconds = time.monotonic() - began
    print(f"\n{note}; {progress.duration(seconds)}")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        plots.save(scale_report.figure(results, note), str(args.output))
        print(f"written: {args.output}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "data": data,
            "settings": dataclasses.asdict(settings) | {"tfds_data_dir": ""},
            "factors": FACTORS,
            "results": results,
            "tensorflow": tf.__version__,
        }
        text = json.dumps(
            scale_report.without_nan(document), indent=1, allow_nan=False
        )
        args.json.write_text(text + "\n")
        print(f"written: {args.json}")


if __name__ == "__main__":
    main()
