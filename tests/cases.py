"""One table with every layer of the catalog, and what tests share.

`test_catalog.py` fails when a catalog row is missing here, or the
reverse. Everything that holds for all layers is parametrised from CASES.
"""

import dataclasses
import importlib

import numpy as np
import pytest
import tensorflow as tf

from tests import reference

# One small shape nearly everywhere: each new one costs an XLA compilation.
SHAPE = (4, 6, 5, 8)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """What the tests need to know of a row.

    Attributes:
        name: the catalog name.
        v: the initial value of its `v`: the paper's v1, or FRN's threshold;
            None if the layer has no v.
        scalars: initial values, by name, of the weights that are one number
            for the layer.
        moving: names of its moving statistics.
        grouped: whether `groups` changes its value.
    """

    name: str
    v: float | None = None
    scalars: dict[str, float] = dataclasses.field(default_factory=dict)
    moving: tuple[str, ...] = ()
    grouped: bool = False

    @property
    def evonorm(self):
        return self.name.startswith("evonorm_")

    @property
    def trainable(self):
        return tuple(k for k in self.initial if not k.startswith("moving_"))

    @property
    def initial(self):
        """Initial values of all weights and moving statistics, by name."""
        v = {} if self.v is None else {"v": self.v}
        moving = {
            name: 0.0 if name == "moving_mean" else 1.0 for name in self.moving
        }
        return {"gamma": 1.0, "beta": 0.0, **v, **self.scalars, **moving}


_VARIANCE = ("moving_variance",)
_BOTH = ("moving_mean", "moving_variance")

CASES = (
    Case("evonorm_b0", v=1.0, moving=_VARIANCE),
    Case("evonorm_b1", moving=_VARIANCE),
    Case("evonorm_b2", moving=_VARIANCE),
    Case("evonorm_s0", v=1.0, grouped=True),
    Case("evonorm_s1", grouped=True),
    Case("evonorm_s2", grouped=True),
    Case("bn_relu", moving=_BOTH),
    Case("bn_silu", moving=_BOTH),
    Case("bn_swish", v=1.0, moving=_BOTH),
    Case("gn_relu", grouped=True),
    Case("gn_silu", grouped=True),
    Case("gn_swish", v=1.0, grouped=True),
    Case("ln_relu"),
    Case("pn_relu"),
    Case("frn", v=0.0),
    Case("dyt", scalars={"alpha": 0.5}),
    Case("derf", scalars={"alpha": 0.5, "s": 0.0}),
    Case("random"),
    Case("random_rej"),
    Case("rs_rej", moving=("moving_mean_square",)),
)
BY_NAME = {case.name: case for case in CASES}
GROUPED = tuple(case for case in CASES if case.grouped)
MOVING = tuple(case for case in CASES if case.moving)
BASELINES = tuple(case for case in CASES if not case.evonorm)
STATELESS = tuple(case for case in CASES if not case.moving)
# One case per kernel; the others differ in [C] arithmetic or an activation.
KERNELS = tuple(
    BY_NAME[name]
    for name in ("evonorm_b0", "evonorm_b1", "evonorm_s0", "evonorm_s2")
    + ("bn_swish", "gn_silu", "ln_relu", "frn", "derf", "rs_rej")
)

# One entry per kind of kernel: statistics of the batch and of groups, of the
# batch alone, none, and a kernel that is differentiated by the backend.
KINDS = tuple(
    BY_NAME[name]
    for name in ("evonorm_b0", "evonorm_s0", "bn_swish", "derf", "rs_rej")
)


def mark_repeats(items, folder, repeats):
    """Marks tests of a folder as slow that repeat others.

    Args:
      items: the collected tests.
      folder: the folder's path.
      repeats: (name of a test's function, its parameters) -> bool.
    """
    for item in items:
        crossed = folder in item.path.parents and hasattr(item, "callspec")
        if crossed and repeats(item.originalname, item.callspec.params):
            item.add_marker(pytest.mark.slow)


both_ways = pytest.mark.parametrize("xla", ["auto", False])
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
every_grouped = pytest.mark.parametrize("case", GROUPED, ids=lambda c: c.name)
every_moving = pytest.mark.parametrize("case", MOVING, ids=lambda c: c.name)
every_baseline = pytest.mark.parametrize(
    "case", BASELINES, ids=lambda c: c.name
)
# Defined for [N, S, C]; B layers compare a map with the batch and are not.
SEQUENCES = tuple(c for c in CASES if not c.name.startswith("evonorm_b"))
every_sequence = pytest.mark.parametrize(
    "case", SEQUENCES, ids=lambda c: c.name
)
every_stateless = pytest.mark.parametrize(
    "case", STATELESS, ids=lambda c: c.name
)


@dataclasses.dataclass(frozen=True)
class Kit:
    """One of the two Kerases, and our layers for it."""

    keras: object
    layers: object


def kit(name):
    """Returns the Kit called "keras3" or "tf_keras"."""
    keras, layers = {
        "keras3": ("keras", "evonorm_tf.layers"),
        "tf_keras": ("tf_keras", "evonorm_tf.legacy"),
    }[name]
    # An environment with TensorFlow alone, as the wheel asks, has one Keras.
    keras = pytest.importorskip(keras)
    return Kit(keras, importlib.import_module(layers))


KITS = ("keras3", "tf_keras")
both_kerases = pytest.mark.parametrize("kit_name", KITS)


def weights_of(case, channels=SHAPE[-1], seed=1):
    """Returns random weights and moving statistics of a row, [C] or [].

    All are float32 numbers, held in float64, so that a layer which keeps
    them in float32 holds the very same.
    """
    rng = np.random.default_rng(seed)
    values = {}
    for name, initial in case.initial.items():
        size = () if name in case.scalars else channels
        drawn = initial + 0.3 * rng.standard_normal(size)
        if name in ("moving_variance", "moving_mean_square"):
            drawn = np.abs(drawn) + 0.5
        values[name] = np.asarray(np.float32(drawn), np.float64)
    return values


def split(values):
    """Returns (parameters, moving statistics) of what weights_of gave."""
    moving = {k: v for k, v in values.items() if k.startswith("moving_")}
    return {k: v for k, v in values.items() if k not in moving}, moving


def draw(shape=SHAPE, seed=0, scale=1.5, offset=0.3):
    """Returns an input, float32 numbers held in float64."""
    rng = np.random.default_rng(seed)
    x = offset + scale * rng.standard_normal(shape)
    return x.astype(np.float32).astype(np.float64)


def make(kit_name, case, values=None, shape=SHAPE, **keywords):
    """Returns a built layer, holding `values` if given."""
    layer = kit(kit_name).layers.NormAct(case.name, **keywords)
    layer.build((None, *shape[1:]))
    if values:
        assign(layer, values)
    return layer


def assign(layer, values):
    for name, value in values.items():
        weight = getattr(layer, name)
        weight.assign(np.asarray(value, tf.as_dtype(weight.dtype).name))


def gradients(layer, x, cotangent, training=True, **conditional):
    """Returns y and gradients of sum(cotangent * y), as NumPy arrays.

    Keys: "x", every trainable weight by name, every conditional by name.
    The sum is taken in float32 or wider, as a loss is.
    """
    x = tf.convert_to_tensor(x)
    weights = {name for case in CASES for name in case.trainable}
    names = [n for n in sorted(weights) if _trainable(layer, n)]
    sources = {name: variable(layer, name) for name in names}
    conditional = {k: tf.convert_to_tensor(t) for k, t in conditional.items()}
    sources = {"x": x, **sources, **conditional}
    with tf.GradientTape() as tape:
        tape.watch([x, *conditional.values()])
        y = layer(x, training=training, **conditional)
        wide = y if y.dtype == tf.float64 else tf.cast(y, tf.float32)
        loss = tf.reduce_sum(wide * tf.cast(cotangent, wide.dtype))
    found = tape.gradient(loss, sources)
    return y, {name: as_numpy(value) for name, value in found.items()}


def _trainable(layer, name):
    weight = getattr(layer, name, None)
    return any(weight is one for one in layer.trainable_variables)


def variable(layer, name):
    """The tf.Variable of a weight; Keras 3 wraps it, tf_keras does not."""
    found = getattr(layer, name)
    return found if isinstance(found, tf.Variable) else found.value


def as_numpy(tensor):
    """float64 values of a tensor or variable; None stays None."""
    if tensor is None:
        return None
    return np.asarray(tf.cast(tensor, tf.float64))


def plain_gradients(name, x, weights, cotangent, **settings):
    """Autodiff, in float64, of the reference's plain formula."""
    tnp = tf.experimental.numpy
    sources = {"x": x, **weights}
    sources = {k: tf.constant(v, tf.float64) for k, v in sources.items()}
    with tf.GradientTape() as tape:
        tape.watch(list(sources.values()))
        parameters = {k: v for k, v in sources.items() if k != "x"}
        y = reference.forward(
            name, sources["x"], parameters, xp=tnp, **settings
        )
        loss = tf.reduce_sum(y * cotangent)
    found = tape.gradient(
        loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return {name: value.numpy() for name, value in found.items()}


def assert_close(got, wanted, tolerance, what=""):
    """Fails unless |got - wanted| <= tolerance * max(|wanted|, rms).

    Relative to the value, or to the array's own size (root mean square)
    where the value happens to lie near zero: beta + gamma * z cancels.
    """
    got, wanted = as_numpy(got), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape, (what, got.shape, wanted.shape)
    assert np.all(np.isfinite(got)), f"{what}: not finite"
    size = max(np.sqrt(np.mean(wanted * wanted)), 1e-30)
    error = np.abs(got - wanted) / np.maximum(np.abs(wanted), size)
    worst = np.unravel_index(np.argmax(error), error.shape)
    assert error[worst] <= tolerance, (
        f"{what}: error {error[worst]:.3g} > {tolerance:.3g} at {worst}: "
        f"got {got[worst]!r}, wanted {wanted[worst]!r}"
    )
