"""Conversion and fine-tuning of published architectures.

    python -m benchmarks.conversion [NAME ...] [--write docs/convert.md]

Each architecture, from a package and in that package's Keras, is trained on
scikit-learn's digits for some steps of Adam, converted to each layer by
`evonorm_tf.convert` with its defaults, and trained further with the same
optimizer, next to the unconverted network. Each runs in a separate process and
writes one JSON file to `--output`; existing files are not computed again. With
`--write` the table between the page's markers is updated from all files.
Packages that are not installed are reported and skipped:
`pip install kecam keras-unet-collection`.
"""

import argparse
import dataclasses
import functools
import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import report

ROOT = pathlib.Path(__file__).resolve().parents[1]
RUNS = ROOT / "docs" / "runs" / "conversion"
LAYERS = ("evonorm_s0", "evonorm_b0")
CLASSES, BATCH = 10, 16
TRAINED, TUNED, AVERAGED = 100, (0, 5, 50), 5  # steps
RATE = 1e-3  # of Adam
_BEGIN = "<!-- architectures: begin -->"
_END = "<!-- architectures: end -->"


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network of another package.

    Attributes:
      keras: "keras" or "tf_keras".
      package: to be imported.
      make: (package's module, side) -> a model of images [N, side, side, 3];
        its last output is pooled and classified.
      side: of the images, in pixels.
      white: value of white in an image; 255 if the network scales its input.
    """

    keras: str
    package: str
    make: Callable[[Any, int], Any]
    side: int = 32
    white: float = 1.0


def _application(name: str, **options: Any) -> Callable[[Any, int], Any]:
    def make(module, side):
        return getattr(module, name)(
            weights=None,
            include_top=False,
            input_shape=(side, side, 3),
            **options,
        )

    return make


def _kecam(family: str, name: str, **options: Any) -> Any:
    def make(module, side):
        return getattr(getattr(module, family), name)(
            input_shape=(side, side, 3),
            num_classes=0,
            pretrained=None,
            **options,
        )

    return make


def _keras_cv(name: str, **options: Any) -> Callable[[Any, int], Any]:
    # By its sizes, because the name of a preset would download one.
    def make(module, side):
        return getattr(module, name)(
            include_rescaling=True, input_shape=(side, side, 3), **options
        )

    return make


def _unet(name: str, filters: list[int], **options: Any) -> Any:
    def make(module, side):
        return getattr(module, name)(
            (side, side, 3),
            filter_num=filters,
            n_labels=CLASSES,
            output_activation=None,
            batch_norm=True,
            **options,
        )

    return make


_KERAS = functools.partial(Architecture, "keras", "keras.applications")
_LEGACY = functools.partial(Architecture, "tf_keras", "tf_keras.applications")
_KECAM = functools.partial(Architecture, "tf_keras", "kecam")
_UNETS = functools.partial(
    Architecture, "tf_keras", "keras_unet_collection.models"
)
_CV = functools.partial(Architecture, "keras", "keras_cv.models", white=255.0)

ARCHITECTURES = {
    "ResNet50": _KERAS(_application("ResNet50")),
    "U-Net": _UNETS(_unet("unet_2d", [16, 32, 64])),
    "MobileNetV2": _KERAS(_application("MobileNetV2")),
    "MobileNetV3Small": _LEGACY(_application("MobileNetV3Small"), white=255.0),
    "EfficientNetB0": _LEGACY(_application("EfficientNetB0"), white=255.0),
    "ResNet18V2": _CV(
        _keras_cv(
            "ResNetV2Backbone",
            stackwise_filters=[64, 128, 256, 512],
            stackwise_blocks=[2, 2, 2, 2],
            stackwise_strides=[1, 2, 2, 2],
            block_type="basic_block",
        )
    ),
    "MobileNet": _LEGACY(_application("MobileNet", alpha=0.5)),
    "RegNetX002": _LEGACY(_application("RegNetX002"), white=255.0),
    "GhostNet": _KECAM(_kecam("ghostnet", "GhostNet_050")),
    "LCNet": _KECAM(_kecam("lcnet", "LCNet050")),
    "Attention U-Net": _UNETS(_unet("att_unet_2d", [8, 16, 32])),
    "U-Net++": _UNETS(_unet("unet_plus_2d", [8, 16, 32])),
    "FasterNetT0": _KECAM(_kecam("fasternet", "FasterNetT0")),
    "TinyNetE": _KECAM(_kecam("tinynet", "TinyNetE")),
    "MobileNetV3Small, 64 px": _LEGACY(
        _application("MobileNetV3Small"), 64, white=255.0
    ),
    "MobileNetV3Large": _KERAS(_application("MobileNetV3Large"), white=255.0),
    "CSPDarkNetTiny": _CV(
        _keras_cv(
            "CSPDarkNetBackbone",
            stackwise_channels=[48, 96, 192, 384],
            stackwise_depth=[1, 3, 3, 1],
            use_depthwise=False,
        )
    ),
    "EfficientNetV1Lite0": _KECAM(
        _kecam("efficientnet", "EfficientNetV1Lite0")
    ),
    "MobileViT_XXS": _KECAM(_kecam("mobilevit", "MobileViT_XXS"), 64),
    "RegNetY002": _LEGACY(_application("RegNetY002"), white=255.0),
    "EfficientNetV2B0": _KERAS(_application("EfficientNetV2B0"), white=255.0),
    "ResNet50V2": _LEGACY(_application("ResNet50V2")),
    "ConvNeXtTiny": _KERAS(_application("ConvNeXtTiny"), white=255.0),
    "NASNetMobile": _KERAS(_application("NASNetMobile")),
    "DenseNet121": _KERAS(_application("DenseNet121")),
    "Xception": _KERAS(_application("Xception"), 71),
    "InceptionV3": _LEGACY(_application("InceptionV3"), 75),
    "ResNetRS50": _LEGACY(_application("ResNetRS50"), white=255.0),
}


def digits(side: int, white: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns images [N, side, side, 3] and labels, in a fixed order."""
    import tensorflow as tf
    from sklearn import datasets

    found = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = found.images[order][..., None] * (white / 16.0)
    images = tf.image.resize(images, [side, side])
    return np.repeat(images, 3, -1).astype(np.float32), found.target[order]


class Training:
    """A model and its training, on the same batches in the same order."""

    def __init__(self, model: Any, keras: Any, data: Any):
        import tensorflow as tf

        self._images, self._labels = data
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.Adam(RATE)
        optimizer.build(model.trainable_variables)

        def step(images, labels):
            with tf.GradientTape() as tape:
                value = loss(labels, model(images, training=True))
            weights = model.trainable_variables
            gradients = tape.gradient(value, weights)
            optimizer.apply_gradients(zip(gradients, weights))
            return value

        self._step = tf.function(step, autograph=False)

    def run(self, first: int, last: int) -> list[float]:
        """Returns the losses at steps `first` to `last` (exclusive)."""
        usable, losses = len(self._images) // BATCH, []
        for index in range(first, last):
            part = slice(*(BATCH * (index % usable + k) for k in (0, 1)))
            losses.append(self._step(self._images[part], self._labels[part]))
        return [float(loss) for loss in losses]

    def tune(self) -> dict[str, float]:
        """Returns the losses after some steps, means over the next few steps.

        At step 0 it is the loss of the first batch alone, because the next
        one is computed with other weights.
        """
        losses = self.run(TRAINED, TRAINED + max(TUNED) + AVERAGED)
        return {
            str(k): round(
                float(np.mean(losses[k : k + (AVERAGED if k else 1)])), 4
            )
            for k in TUNED
        }


def measure(name: str, train: bool = True) -> dict[str, Any]:
    """Trains, converts and fine-tunes one architecture, or only converts."""
    from evonorm_tf import configure, convert

    one = ARCHITECTURES[name]
    keras = importlib.import_module(one.keras)
    configure(xla=False)
    keras.utils.set_random_seed(0)
    body = one.make(importlib.import_module(one.package), one.side)
    x = body.output[0] if isinstance(body.output, list) else body.output
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(body.inputs, keras.layers.Dense(CLASSES)(x))
    found: dict[str, Any] = {
        "architecture": name,
        "package": one.package,
        "side": one.side,
        "parameters": model.count_params(),
    }
    if train:
        data = digits(one.side, one.white)
        training = Training(model, keras, data)
        found["trained"] = training.run(0, TRAINED)[:: TRAINED - 1]
    converted: dict[str, Any] = {}
    for layer in LAYERS:
        try:
            new, made = convert(
                model, layer, unreplaceable="leave", return_report=True
            )
        except ValueError as error:
            converted[layer] = {"refused": str(error).split("\n")[0]}
            continue
        converted[layer] = {"sites": became(made)}
        if train:
            converted[layer]["loss"] = Training(new, keras, data).tune()
    found["converted"] = converted
    if train:
        found["loss"] = training.tune()
    return found


def became(made: Any) -> dict[str, int]:
    """Counts what the sites became, from the report of a conversion."""
    counts: dict[str, int] = {}
    for entry in made.entries:
        kind = entry.new or next(
            (
                what
                for start, what in (
                    ("without an activation", "left without activation"),
                    ("a map of one pixel", "left on one pixel"),
                    ("cannot be replaced", "left as unreplaceable"),
                )
                if entry.note.startswith(start)
            ),
            "",
        )
        if kind:
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def table(runs: pathlib.Path) -> str:
    """Returns the page's table, all files in the order of ARCHITECTURES."""
    lines = []
    for name in ARCHITECTURES:
        path = _path(runs, name)
        if not path.exists():
            continue
        row = json.loads(path.read_text())
        home = row["package"].split(".")[0]
        side = f"{row['side']} px"
        own = [_losses(row)]
        for layer in LAYERS:
            other = row["converted"][layer]
            if "refused" in other:
                own += ["nothing to replace", ""]
                continue
            sites = other["sites"]
            parts = [str(sites.pop(layer, 0)), *_left(sites)]
            own += [" + ".join(parts), _losses(other)]
        label = name if "px" in name else f"{name}, {side}"
        lines.append([label, home, *own])
    head = ["architecture", "package", "loss, unconverted"]
    for layer in LAYERS:
        head += [f"{layer}: sites", "loss"]
    return report.markdown(head, lines)


def _left(sites: dict[str, int]) -> list[str]:
    short = {
        "left without activation": "left",
        "left on one pixel": "left (one pixel)",
        "left as unreplaceable": "left (unreplaceable)",
    }
    return [f"{count} {short.get(kind, kind)}" for kind, count in sites.items()]


def _losses(found: dict[str, Any]) -> str:
    if "loss" not in found:
        return "*not run*"
    losses: dict[str, float] = found["loss"]
    return ", ".join(
        "NaN" if value != value else f"{value:.3g}" for value in losses.values()
    )


def _path(runs: pathlib.Path, name: str) -> pathlib.Path:
    return runs / f"{name.lower().replace(', ', '-').replace(' ', '-')}.json"


def _done(runs: pathlib.Path, name: str, train: bool) -> bool:
    path = _path(runs, name)
    return path.exists() and not (
        train and "loss" not in json.loads(path.read_text())
    )


def run(name: str, runs: pathlib.Path, train: bool) -> None:
    """Measures one architecture in a separate process and prints its row."""
    one = ARCHITECTURES[name]
    package = one.package.split(".")[0]
    if importlib.util.find_spec(package) is None:
        print(f"{name}: skipped, because {package} is not installed")
        return
    legacy = {"TF_USE_LEGACY_KERAS": str(int(one.keras == "tf_keras"))}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.conversion", "--one", name]
        + ["--sites"] * (not train),
        env=os.environ | legacy,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        print(f"{name}: failed, exit status {done.returncode}")
        return
    found = json.loads(done.stdout.splitlines()[-1])
    path = _path(runs, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found), flush=True)


def main() -> None:
    """Measures the chosen architectures, and updates the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.conversion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="architectures (default: all)")
    parser.add_argument("--output", type=pathlib.Path, default=RUNS)
    parser.add_argument("--write", type=pathlib.Path, help="page to update")
    parser.add_argument(
        "--sites",
        action="store_true",
        help="convert without training; a later run adds the losses",
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(ARCHITECTURES))
    if unknown:
        parser.error(
            f"unknown: {', '.join(unknown)}. Expected some of "
            f"{', '.join(ARCHITECTURES)}"
        )
    if given.one:
        print(json.dumps(measure(given.one, not given.sites)))
        return
    for name in given.names or ARCHITECTURES:
        if not _done(given.output, name, not given.sites):
            run(name, given.output, not given.sites)
    if given.write:
        page = given.write.read_text()
        before, rest = page.split(_BEGIN)
        after = rest.split(_END)[1]
        made = f"{before}{_BEGIN}\n{table(given.output)}\n{_END}{after}"
        given.write.write_text(made)


if __name__ == "__main__":
    main()
