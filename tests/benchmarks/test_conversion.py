"""The table of converted architectures: measured, kept, printed."""

import json

import numpy as np
import pytest

from benchmarks import conversion
from evonorm_tf.conversion import Entry, Report


def _tiny(module, side):
    layers = module.layers
    x = inputs = module.Input((side, side, 3))
    for name in ("first", "last"):
        x = layers.Conv2D(4, 3, name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_norm")(x)
        x = layers.ReLU()(x) if name == "first" else x
    return module.Model(inputs, x)


def _plain(module, side):
    inputs = module.Input((side, side, 3))
    return module.Model(inputs, module.layers.Conv2D(4, 3)(inputs))


@pytest.fixture
def small(monkeypatch):
    keras = pytest.importorskip("keras")
    pytest.importorskip("sklearn")
    made = {
        "Tiny": conversion.Architecture("keras", "keras", _tiny, 8),
        "Plain": conversion.Architecture("keras", "keras", _plain, 8),
    }
    monkeypatch.setattr(conversion, "ARCHITECTURES", made)
    monkeypatch.setattr(conversion, "TRAINED", 3)
    monkeypatch.setattr(conversion, "TUNED", (0, 1, 2))
    monkeypatch.setattr(conversion, "AVERAGED", 1)
    return keras


@pytest.mark.slow
def test_an_architecture(small):
    found = conversion.measure("Tiny")
    assert set(found["converted"]) == set(conversion.LAYERS)
    for layer, made in found["converted"].items():
        assert made["sites"] == {layer: 1, "left without activation": 1}
        assert np.all(np.isfinite(list(made["loss"].values())))
        assert list(made["loss"]) == ["0", "1", "2"]
    assert len(found["trained"]) == 2 and len(found["loss"]) == 3
    # All see the same batches: untrained networks of one seed agree.
    assert conversion.measure("Tiny") == found


def test_sites_without_training(small, tmp_path):
    found = conversion.measure("Tiny", train=False)
    assert "loss" not in found
    path = conversion._path(tmp_path, "Tiny")
    path.write_text(json.dumps(found))
    assert "*not run* | 1 + 1 left | *not run*" in conversion.table(tmp_path)
    # A run that trains begins with what has no losses.
    assert conversion._done(tmp_path, "Tiny", train=False)
    assert not conversion._done(tmp_path, "Tiny", train=True)


def test_a_network_without_normalization_is_said_to_be_one(small, tmp_path):
    found = conversion.measure("Plain")
    said = found["converted"]["evonorm_s0"]["refused"]
    assert "nothing to replace" in said
    conversion._path(tmp_path, "Plain").write_text(json.dumps(found))
    assert "nothing to replace" in conversion.table(tmp_path)


def test_what_became_of_the_sites():
    norm = "BatchNormalization"
    report = Report(
        (
            Entry("a", norm, "evonorm_b0", 8),
            Entry("b", norm, "evonorm_b0", 8),
            Entry("c", norm, note="without an activation: read by add"),
            Entry("d", norm, note="a map of one pixel: a statistic"),
            Entry("e", norm, note="cannot be replaced: its axis"),
            Entry("relu", "ReLU", note="reads add"),
        )
    )
    assert conversion.became(report) == {
        "evonorm_b0": 2,
        "left without activation": 1,
        "left on one pixel": 1,
        "left as unreplaceable": 1,
    }


def test_the_page_is_renewed(small, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"a\n{conversion._BEGIN}\nold\n{conversion._END}\nb\n")
    loss = {"0": 2.0, "5": 1.0, "50": float("nan")}
    row = {
        "architecture": "Tiny",
        "package": "keras.applications",
        "side": 8,
        "loss": loss,
        "converted": {
            "evonorm_s0": {"sites": {"evonorm_s0": 2}, "loss": loss},
            "evonorm_b0": {
                "sites": {"evonorm_b0": 1, "left on one pixel": 1},
                "loss": loss,
            },
        },
    }
    path = conversion._path(tmp_path, "Tiny")
    path.write_text(json.dumps(row))
    arguments = ["Tiny", f"--output={tmp_path}", f"--write={page}"]
    monkeypatch.setattr("sys.argv", ["conversion", *arguments])
    conversion.main()  # What is there already is not run again.
    line = "| Tiny, 8 px | keras | 2, 1, NaN | 2 | 2, 1, NaN |"
    assert line in page.read_text()
    assert "1 + 1 left (one pixel)" in page.read_text()
    assert page.read_text().startswith("a\n") and "old" not in page.read_text()
    monkeypatch.setattr("sys.argv", ["conversion", "Other"])
    with pytest.raises(SystemExit):
        conversion.main()
    assert "unknown: Other" in capsys.readouterr().err
