"""The table that a conversion prints."""

import evonorm_tf
from evonorm_tf.conversion import Entry, Report
from tests import cases
from tests.convert import small


@cases.both_kerases
def test_the_printed_table(kit_name):
    keras = cases.kit(kit_name).keras
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(64, 1, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="act")(x)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = keras.layers.Conv2D(24, 1, name="squeeze")(x)
    x = keras.layers.GroupNormalization(8, name="pixel")(x)
    x = keras.layers.Activation("swish", name="swish")(x)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="end")(x))
    _, report = evonorm_tf.convert(
        model, "evonorm_s0", sites="norm|pixel", return_report=True
    )
    heads, norm, left, end, counts = str(report).splitlines()
    assert heads.split() == [
        *("layer", "old", "new", "channels", "groups", "note")
    ]
    assert norm.split() == [
        *("norm", "BatchNormalization", "+", "act", "(ReLU)"),
        *("evonorm_s0", "64", "32"),
    ]
    # One channel per group there would be a variance of one element.
    assert "left        24" in left and "a map of one pixel" in left
    assert end.split()[:4] == ["end", "BatchNormalization", "left", "24"]
    assert end.endswith("not among `sites`")
    assert counts == "1 evonorm_s0, 2 left"
    # Columns begin where their heads do.
    assert norm.index("evonorm_s0") == heads.index("new")
    make = small.make(kit_name, "evonorm_s0", min_group_size=4)
    _, report = evonorm_tf.convert(
        model, make, sites="pixel", return_report=True
    )
    assert "evonorm_s0  24        6" in str(report)
    assert "a map of one pixel: 4 elements in a group" in str(report)
    assert "one channel per group" not in str(report)


def test_counts_and_notes():
    report = Report(
        (
            Entry("b", "BatchNormalization", "affine", 3),
            Entry("c", "BatchNormalization"),
            Entry("a", "ReLU", activation=True),
        ),
        ("m: a Net became a Functional",),
    )
    assert report.counts() == {"affine": 1, "left": 1, "left (activations)": 1}
    assert str(report).endswith(
        "1 affine, 1 left, 1 left (activations)\nm: a Net became a Functional"
    )
