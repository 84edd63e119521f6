"""Figures of recorded runs: what is read, what is drawn where."""

import json
import types

import matplotlib.colors
import pytest
import yaml

from classification import curves, logs, plot
from evonorm_tf import catalog, plots

IMAGES = 3200


def make_run(root, layer, batch, seed, **changes):
    """A run's folder: 8 training lines, an evaluation in the middle and last.

    Args:
      root: the folder to make it in.
      layer: catalog name.
      batch: images per step.
      seed: of the run; training loss is 2 + seed - share of the run done,
        training accuracy that share / 2, test accuracy 0.5 + seed / 10 at
        the end.
      **changes: stop (share of the run that is recorded), replicas, and
        values of `task` by name.
    """
    stop, replicas = changes.pop("stop", 1.0), changes.pop("replicas", 1)
    steps = IMAGES // batch
    task = {
        "model": {"network": "resnet8_cifar", "norm_act": {"name": layer}},
        "train_data": {
            "dataset": "cifar10",
            "split": "train",
            "global_batch_size": batch,
            "tfds_data_dir": f"/data{seed}",
            "seed": seed,
        },
        "validation_data": {"split": "test", "seed": 0},
        "weight_decay": 1e-4,
        "seed": seed,
    }
    sgd = {"type": "sgd", "sgd": {"momentum": 0.9}}
    rate = {"type": "constant", "constant": {"learning_rate": batch / 1280}}
    trainer = {
        "train_steps": steps,
        "optimizer_config": {"optimizer": sgd, "learning_rate": rate},
        "steps_per_loop": seed,
    }
    lines = []
    for part in range(1, 9):
        share, step = part / 8, steps * part // 8
        if share > stop:
            break
        loss = 2 + seed - share
        lines.append(("train", step, {"training_loss": loss}))
        lines[-1][2]["accuracy"] = share / 2
        if part in (4, 8):
            accuracy = 0.5 + seed / 10 - (0.25 if part == 4 else 0)
            lines.append(("eval", step, {"accuracy": accuracy}))
    folder = root / f"b{batch}" / layer / f"seed{seed}"
    folder.mkdir(parents=True)
    params = {"task": task | changes, "trainer": trainer}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    devices = f"A, 1 CPU replica(s), batch {batch} ({batch // replicas} a "
    (folder / "run.json").write_text(
        json.dumps({"devices": devices + "replica)"})
    )
    (folder / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"kind": kind, "step": step, **values}) + "\n"
            for kind, step, values in lines
        )
    )
    return folder


def _line(axes, colour, marker="None"):
    """The one drawn line of that colour and marker, as x and y."""
    found = [
        (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if matplotlib.colors.same_color(line.get_color(), colour)
        and line.get_marker() == marker
    ]
    assert len(found) == 1
    return found[0]


def test_every_catalog_layer_has_its_own_style():
    for field in catalog.Style._fields:
        owners = {}
        for name in catalog.names():
            value = getattr(plots.style(name), field)
            first = owners.setdefault(value, name)
            assert first == name, f"{first} and {name} have {field} {value}"


def test_names_pushed_apart_stay_in_order_and_move_little():
    assert plots.spread_out([0.0, 5.0, 9.0], 1.0) == [0.0, 5.0, 9.0]
    moved = plots.spread_out([0.0, 4.9, 5.0, 5.1], 1.0)
    assert moved == pytest.approx([0.0, 4.0, 5.0, 6.0])
    # A block that grows into its neighbour takes it in.
    moved = plots.spread_out([3.5, 5.0, 5.0, 5.0], 1.0)
    assert moved == pytest.approx([3.125, 4.125, 5.125, 6.125])


def test_runs_are_found_however_deep(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / "x", "bn_relu", 4, seed)
    deep = make_run(tmp_path / "x", "frn", 4, 0, stop=0.5)
    found = logs.find([str(tmp_path), str(deep)])
    assert [(run.layer, run.seed) for run in found] == [
        ("bn_relu", 0),
        ("bn_relu", 1),
        ("frn", 0),
    ]
    assert [run.finished for run in found] == [True, True, False]
    assert found[1].accuracy == pytest.approx(60.0)
    assert found[2].accuracy is None
    assert found[2].progress == f"{found[2].path} (step 400 of 800)"


def test_images_per_worker_are_those_of_a_pass(tmp_path):
    folder = make_run(tmp_path, "bn_relu", 64, 0, replicas=2)
    about = folder / "run.json"
    assert logs.read(str(folder)).per_worker == 32
    text = about.read_text().replace(
        "a replica)", "a replica), 4 micro-batches of 8 a step"
    )
    about.write_text(text)
    assert logs.read(str(folder)).per_worker == 8
    about.write_text(json.dumps({"devices": "somewhere"}))
    with pytest.raises(ValueError, match="devices='somewhere'"):
        logs.read(str(folder))
    # Resumed on another number of devices.
    both = "one (32 a replica), then two (16 a replica)"
    about.write_text(json.dumps({"devices": both}))
    with pytest.raises(ValueError, match=r"same images per replica.*then two"):
        logs.read(str(folder))


def test_about_counts_epochs_where_the_set_is_known(tmp_path):
    make_run(tmp_path, "bn_relu", 4, 0)
    run = logs.find([str(tmp_path)])
    assert logs.about(run) == "resnet8_cifar on cifar10, 0.064 epochs"
    run[0].settings["task.train_data.dataset"] = "cifar10:3.0.2"
    assert logs.about(run) == "resnet8_cifar on cifar10:3.0.2, 0.064 epochs"
    run[0].settings["task.train_data.dataset"] = "flowers"
    assert logs.about(run) == "resnet8_cifar on flowers, 3,200 images per run"


def test_no_run_and_half_a_copy_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"There is no run in.*empty"):
        logs.find([str(tmp_path / "empty")])
    with pytest.raises(ValueError, match="at least one folder"):
        logs.find([])
    folder = make_run(tmp_path, "bn_relu", 4, 0)
    (folder / "params.yaml").unlink()
    with pytest.raises(ValueError, match=r"lacks params\.yaml"):
        logs.find([str(tmp_path)])


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("task.weight_decay", {"weight_decay": 0.0}),
        (
            "task.validation_data.split",
            {"validation_data": {"split": "train"}},
        ),
        ("workers", {"replicas": 2}),
        ("task.label_smoothing", {"label_smoothing": 0.1}),
        ("task.init_checkpoint", {"init_checkpoint": "of another run"}),
    ],
)
def test_runs_that_differ_in_more_are_refused(tmp_path, key, changes):
    make_run(tmp_path, "bn_relu", 8, 0)
    make_run(tmp_path, "frn", 8, 1, **changes)
    with pytest.raises(ValueError, match=rf"separate figures.*{key}="):
        logs.find([str(tmp_path)])


def test_a_setting_that_came_later_is_off_or_at_its_default(tmp_path):
    make_run(tmp_path, "bn_relu", 8, 0)
    path = make_run(tmp_path, "frn", 8, 1, mixup=None) / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for magnitude in (9.0, 8.0):
        assert len(logs.find([str(tmp_path)])) == 2
        params["task"]["train_data"]["randaugment_magnitude"] = magnitude
        path.write_text(yaml.safe_dump(params))
    with pytest.raises(ValueError, match=r"randaugment_magnitude=.*8\.0"):
        logs.find([str(tmp_path)])


def test_other_data_length_or_a_run_twice_is_refused(tmp_path, monkeypatch):
    make_run(tmp_path / "a", "bn_relu", 8, 0)
    make_run(tmp_path / "b", "bn_relu", 8, 0)
    with pytest.raises(ValueError, match="same layer, batch and seed"):
        logs.find([str(tmp_path)])
    monkeypatch.setattr("tests.classification.test_plot.IMAGES", 6400)
    make_run(tmp_path / "c", "frn", 8, 0)
    with pytest.raises(ValueError, match=r"same number of images.*3,200"):
        logs.find([str(tmp_path / "a"), str(tmp_path / "c")])
    task = {"train_data": {"dataset": "digits", "global_batch_size": 8}}
    make_run(tmp_path / "d", "frn", 8, 1, **task)
    with pytest.raises(ValueError, match=r"dataset='cifar10'.*'digits'"):
        logs.find([str(tmp_path / "a"), str(tmp_path / "d")])


def test_batch_size_figure_has_mean_range_and_the_largest_first(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path, "bn_relu", 32, seed)
        make_run(tmp_path, "bn_relu", 4, seed, stop=0.5 if seed else 1.0)
    new = plot.draw(logs.find([str(tmp_path)]), "batch_size")
    (axes,) = new.axes
    x, y = _line(axes, plots.style("bn_relu").colour)
    assert x == [32, 4]
    # Seeds 0 and 1 end at 50 and 60 %; of batch 4 only seed 0 has ended.
    assert y == pytest.approx([55.0, 50.0])
    bars = [bar.get_segments()[0][:, 1] for bar in axes.collections]
    assert bars[0] == pytest.approx([50.0, 60.0])
    assert bars[1] == pytest.approx([50.0, 50.0])
    left, right = axes.get_xlim()
    assert left > 32 > 4 > right
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["bn_relu  50.0"]
    note = new.get_suptitle()
    assert "resnet8_cifar on cifar10" in note
    assert "mean and range of 1 to 2 seeds" in note
    assert "1 without a final evaluation omitted" in note


def test_batch_size_figure_of_no_finished_run_says_so(tmp_path):
    make_run(tmp_path, "bn_relu", 4, 0, stop=0.5)
    with pytest.raises(ValueError, match=r"step 400 of 800"):
        plot.draw(logs.find([str(tmp_path)]), "batch_size")


def test_curves_are_means_over_images_seen(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path, "evonorm_s0", 8, seed)
    make_run(tmp_path, "evonorm_s0", 4, 0, stop=0.5)
    new = plot.draw(logs.find([str(tmp_path)]), "curves")
    loss8, loss4, accuracy8, accuracy4 = new.axes
    assert loss8.get_title() == "8 images per worker"
    assert loss4.get_title() == "4 images per worker"
    colour = plots.style("evonorm_s0").colour
    x, y = _line(loss8, colour)
    images = [IMAGES * part // 8 for part in range(1, 9)]
    assert x == images
    # Means of 2 - share and 3 - share.
    assert y == pytest.approx([2.5 - part / 8 for part in range(1, 9)])
    band = loss8.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((1.0, 2.875))
    assert _line(accuracy8, colour)[1] == pytest.approx(
        [50 * part / 8 for part in range(1, 9)]
    )
    marker = plots.style("evonorm_s0").marker
    x, y = _line(accuracy8, colour, marker)
    assert y == pytest.approx([30.0, 55.0])
    # Set apart from the others, but beside their own place.
    assert x == pytest.approx([IMAGES / 2, IMAGES], abs=0.03 * IMAGES)
    # The unfinished run ends in a ring; the finished ones do not.
    assert _rings(loss4) == [([IMAGES // 2], [1.5])]
    assert _rings(accuracy4) == [([IMAGES // 2], [25.0])]
    assert _rings(loss8) == _rings(accuracy8) == []
    assert "1 unfinished, ending in a ring" in new.get_suptitle()


def _rings(axes):
    return [
        (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if line.get_markerfacecolor() == "white"
    ]


def test_long_curves_are_thinned_alike_for_seeds_and_halves(tmp_path):
    make_run(tmp_path, "bn_relu", 4, 0)
    (run,) = logs.find([str(tmp_path)])
    run.train[:] = [
        {"step": step, "training_loss": float(step)} for step in range(1, 801)
    ]
    whole = curves.curve(run, "training_loss")
    assert len(whole) == 60
    assert max(whole) == IMAGES
    # The first sixtieth: steps 1 to 14 of 800.
    assert next(iter(whole.items())) == (14 * 4, pytest.approx(7.5))
    del run.train[400:]
    half = curves.curve(run, "training_loss")
    assert half.items() <= whole.items()


def test_main_writes_the_picture_and_names_the_unfinished(
    tmp_path, capsys, monkeypatch
):
    make_run(tmp_path, "bn_relu", 4, 0, stop=0.5)
    values = {"output": str(tmp_path / "new" / "x.png"), "kind": "curves"}
    monkeypatch.setattr(plot.flags, "FLAGS", types.SimpleNamespace(**values))
    plot.main(["plot", str(tmp_path)])
    told = capsys.readouterr().out
    assert "not finished" in told and "step 400 of 800" in told
    picture = (tmp_path / "new" / "x.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
