"""Curves of runs that compare, and a refusal of those that do not."""

import json

import matplotlib.colors
import numpy as np
import pytest
import yaml
from PIL import Image

from evonorm_tf import plots
from gan import plot

LAYERS = ("bn_relu", "evonorm_s0", "evonorm_b0")


def _write(folder, layer, distances, digest="a", width=8):
    folder.mkdir(parents=True)
    task = {
        "model": {
            "architecture": "biggan32",
            "generator_width": width,
            "norm_act": {"name": layer},
        },
        "train_data": {"global_batch_size": 64},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump({"task": task}))
    lines = [
        {"kind": "train", "step": 50, "discriminator_sigma": 1.5},
        *(
            {
                "kind": "eval",
                "step": 100 * k,
                "classifier_distance": value,
                "classifier_kernel_distance": 0.1,
                "classifier_score": 2.0,
                "classifier_score_std": 0.1,
            }
            for k, value in enumerate(distances)
        ),
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"kind": "ev')
    facts = {"real": {"images": "some", "sha256": digest}}
    facts["made"] = {"count": "100"}
    (folder / "evaluation.json").write_text(json.dumps({"facts": facts}))


def _saved(figure, folder):
    """The figure's file as [H, W, 3], uint8."""
    plots.save(figure, str(folder / "figure.png"))
    with Image.open(folder / "figure.png") as image:
        return np.asarray(image.convert("RGB"))


def _count(pixels, colour):
    """How many pixels are just of a colour."""
    wanted = np.round(255 * np.array(matplotlib.colors.to_rgb(colour)))
    return int((pixels == wanted).all(-1).sum())


def test_a_line_a_run_in_its_layers_colour(tmp_path):
    _write(tmp_path / "a", "bn_relu", [16.0, 8.0, 4.0])
    _write(tmp_path / "b", "evonorm_s0", [17.0, 6.0])
    logs = plot.find([str(tmp_path)])
    figure = plot.figure(logs)
    distance, score, sigma = figure.axes
    lines = {
        matplotlib.colors.to_hex(line.get_color()): list(line.get_ydata())
        for line in distance.lines
        if line.get_linestyle() != "None"
    }
    assert lines == {
        plots.style("bn_relu").colour: [16.0, 8.0, 4.0],
        plots.style("evonorm_s0").colour: [17.0, 6.0],
    }
    assert list(score.lines[0].get_ydata()) == [2.0] * 3
    assert list(sigma.lines[0].get_ydata()) == [1.5]
    pixels = _saved(figure, tmp_path)
    drawn = {name: _count(pixels, plots.style(name).colour) for name in LAYERS}
    assert drawn["bn_relu"] > 500 and drawn["evonorm_s0"] > 500
    assert drawn["evonorm_b0"] == 0, "no run of this layer was given"


def test_last_samples_of_each_layer_stand_below(tmp_path):
    shades = {"bn_relu": 10, "evonorm_s0": 200}
    for layer, shade in shades.items():
        _write(tmp_path / layer, layer, [16.0, 8.0])
        folder = tmp_path / layer / "samples"
        folder.mkdir()
        for step, level in ((0, 0), (100, shade)):
            picture = np.full((8, 10, 3), level, np.uint8)
            Image.fromarray(picture).save(folder / f"step-{step:07d}.png")
    _write(tmp_path / "bare", "evonorm_b0", [16.0])  # No picture was kept.
    figure = plot.figure(plot.find([str(tmp_path)]))
    shown = {
        axes.get_title(): int(axes.images[0].get_array().max())
        for axes in figure.axes
        if axes.images
    }
    assert shown == {
        f"{layer}, step 100": shade for layer, shade in shades.items()
    }
    pixels = _saved(figure, tmp_path)
    for shade in shades.values():
        assert _count(pixels, f"#{shade:02x}{shade:02x}{shade:02x}") > 10_000
    assert _count(pixels, "#000000") < 10_000, "samples of an earlier step"


@pytest.mark.parametrize(
    "other, message", [({"digest": "b"}, "sha256"), ({"width": 16}, "width")]
)
def test_distances_that_do_not_compare_are_refused(tmp_path, other, message):
    _write(tmp_path / "a", "bn_relu", [16.0])
    _write(tmp_path / "b", "evonorm_s0", [17.0], **other)
    with pytest.raises(ValueError, match=message):
        plot.find([str(tmp_path)])


def test_runs_that_are_not_there_or_not_measured(tmp_path):
    with pytest.raises(ValueError, match="no run in"):
        plot.find([str(tmp_path)])
    _write(tmp_path / "a", "bn_relu", [])
    with pytest.raises(ValueError, match="evaluated yet"):
        plot.figure(plot.find([str(tmp_path)]))
