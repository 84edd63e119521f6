"""A recipe's training step for the TPU compiler."""

import functools
import json
import subprocess
import sys

import pytest

from classification import steps, train
from configs import tables
from evonorm_tf.preflight import tpu
from tests.classification import small
from training import config, preflights

ROW = "imagenet/effnet_b0/evonorm_b0"
TOPOLOGY = "v5e:2x2"


def _debug(row=ROW, **override):
    params = config.parse(row=tables.find(row), params_override=override)
    train.HEAD.shrink(params)
    return params


@pytest.fixture(scope="module", autouse=True)
def _short():
    """The first stages of each network, which have all that is looked at."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("efficientnet_b0", "resnet50"):
            small.shorten(patch, name)
        yield
        _module.cache_clear()


@functools.cache
def _module(layer):
    return steps.preflight_module(_debug(), layer, 4)


def test_step_of_a_recipe_needs_no_data_and_draws_without_state():
    """Dropout, stochastic depth, weight average and RMSProp in one module."""
    module = _module("evonorm_b0")
    assert [v.shape for v in module.inputs] == [(4, 64, 64, 3), (4,)]
    assert len(module.outputs) == 1
    # A generator with a state of its own would be stablehlo.rng.
    assert "stablehlo.rng " not in module.text
    assert "rng_bit_generator" in module.text


@pytest.mark.slow
def test_bare_step_is_the_step_without_its_layers():
    whole, bare = _module("evonorm_b0"), _module(None)
    assert len(bare.state) < len(whole.state)
    assert len(bare.text) < len(whole.text)
    assert not any("norm_act" in value.name for value in bare.state)


def test_mixed_labels_are_an_input():
    override = {"task": {"train_data": {"mixup_alpha": 0.2}}}
    params = _debug("imagenet/r50/bn_relu", **override)
    module = steps.preflight_module(params, "bn_relu", 4)
    assert module.inputs[2].shape == (4, 1000)


def test_batch_must_divide_among_the_chips():
    params = _debug()
    params.task.train_data.global_batch_size = 6
    with pytest.raises(ValueError, match="divisible by the 4 chips"):
        preflights.report(params, steps.preflight_module, TOPOLOGY)


def test_report_is_printed_and_written(tmp_path, monkeypatch, capsys):
    """The compiler is another test's; here it says one of everything."""
    said = dict.fromkeys(tpu._FIGURES, 1.0) | {"compile_seconds": 1.0}
    seen = []

    def compile_text(text, topology):
        seen.append(topology)
        fits = {"fits": len(seen) < 6, "message": "no room"}
        return said | fits

    monkeypatch.setattr(tpu, "compile_text", compile_text)
    module = _module("evonorm_b0")
    built = lambda params, layer, batch: module  # noqa: E731
    monkeypatch.setattr(steps, "preflight_module", built)
    params = _debug()
    params.task.train_data.global_batch_size = 32
    target = tmp_path / "report.json"
    preflights.report(params, steps.preflight_module, TOPOLOGY, str(target))
    assert "Preflight for v5e:2x2" in capsys.readouterr().out
    report = json.loads(target.read_text())
    assert report["batch"] == 8
    assert set(report["steps"]) == {"evonorm_b0", "bn_relu", "no norm_act"}


@pytest.mark.slow
def test_command_line_takes_a_run_or_a_step(tmp_path):
    """--model_dir trains, --preflight compiles; both at once are refused."""
    command = [sys.executable, "-m", "classification.train", f"--row={ROW}"]
    both = [*command, "--preflight=v5e:2x2", f"--model_dir={tmp_path}"]
    both += ["--preflight_json=report.json"]
    done = subprocess.run(both, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "give one of --model_dir" in done.stderr + done.stdout


@pytest.mark.slow
def test_report_file_without_a_report_is_an_error(tmp_path):
    command = [sys.executable, "-m", "classification.train", f"--row={ROW}"]
    command += [f"--model_dir={tmp_path}", "--preflight_json=report.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "requires --preflight" in done.stderr + done.stdout


@pytest.mark.slow
def test_accumulation_cuts_the_batch():
    """Two micro-batches of half the size, one step of the optimizer."""
    params = _debug("imagenet/r50/bn_relu")
    whole = steps.preflight_module(params, "evonorm_s0", 4)
    params.runtime.accumulation_steps = 2
    cut = steps.preflight_module(params, "evonorm_s0", 4)
    assert cut.inputs == whole.inputs
    assert cut.text.count("convolution") > whole.text.count("convolution")
    with pytest.raises(ValueError, match="accumulation_steps=2"):
        steps.preflight_module(params, "evonorm_s0", 3)
