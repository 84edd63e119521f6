"""The training step as StableHLO, for the TPU's compiler."""

import functools
import json

import pytest

from detection import check_config, steps
from evonorm_tf.preflight import tpu
from tests.detection import small
from training import preflights


@functools.cache
def _module(layer):
    return steps.preflight_module(small.parameters(), layer, 2)


@pytest.mark.slow
def test_step_needs_no_data_and_draws_without_state():
    module = _module("evonorm_s0")
    assert module.inputs[0].shape == (2, 64, 64, 3)
    assert len(module.outputs) == 1
    # A generator without a state to set would be stablehlo.rng.
    assert "stablehlo.rng " not in module.text
    assert "rng_bit_generator" in module.text
    # Nothing that only one kind of machine has.
    assert "custom_call" not in module.text
    # Every weight that trains is renewed.
    assert len(module.updates) > 100


@pytest.mark.slow
def test_bare_step_is_the_step_without_its_layers():
    whole, bare = _module("evonorm_s0"), _module(None)
    assert len(bare.state) < len(whole.state)
    assert not any("norm_act" in value.name for value in bare.state)


def test_specs_are_those_of_the_data(tmp_path):
    prepared = small.prepared(tmp_path)
    batches = prepared.build_inputs(prepared.task_config.train_data)
    images, labels = steps.specs(prepared.task_config, 2)
    expected_images, expected = batches.element_spec
    assert images.shape == expected_images.shape
    for name, spec in expected.items():
        pairs = (spec, labels[name])
        if isinstance(spec, dict):
            pairs = [(spec[k], labels[name][k]) for k in spec]
        else:
            pairs = [pairs]
        for one, other in pairs:
            assert (one.shape, one.dtype) == (other.shape, other.dtype), name


@pytest.mark.slow
def test_fused_suppression_is_refused_before_and_named_after():
    params = small.parameters()
    params.task.model.roi_generator.use_batched_nms = True
    with pytest.raises(ValueError, match="use_batched_nms"):
        check_config.tpu_safe(params.task.model)
    params.runtime.distribution_strategy = "tpu"
    with pytest.raises(ValueError, match="CombinedNonMaxSuppression"):
        check_config.options(params)
    with pytest.raises(ValueError, match="CombinedNonMaxSuppression"):
        steps.preflight_module(params, None, 2)


def test_batch_and_micro_batches_that_cannot_be_are_refused():
    params = small.parameters()
    with pytest.raises(ValueError, match="divisible by the 4 chips"):
        preflights.report(params, steps.preflight_module, "v5e:2x2")
    params.runtime.accumulation_steps = 2
    with pytest.raises(ValueError, match="accumulation_steps=2"):
        steps.preflight_module(params, None, 2)


@pytest.mark.slow
def test_report_is_printed_and_written(tmp_path, monkeypatch, capsys):
    """The compiler is another test's; here it says one of everything."""
    said = dict.fromkeys(tpu._FIGURES, 1.0) | {"compile_seconds": 1.0}
    seen = []

    def compile_text(text, topology):
        seen.append(topology)
        return said | {"fits": len(seen) < 6, "message": "no room"}

    monkeypatch.setattr(tpu, "compile_text", compile_text)
    module = _module("evonorm_s0")
    built = lambda params, layer, batch: module  # noqa: E731
    monkeypatch.setattr(steps, "preflight_module", built)
    params = small.parameters()
    params.task.train_data.global_batch_size = 8
    target = tmp_path / "report.json"
    preflights.report(params, steps.preflight_module, "v5e:2x2", str(target))
    assert "Preflight for v5e:2x2" in capsys.readouterr().out
    report = json.loads(target.read_text())
    assert report["batch"] == 2
    assert set(report["steps"]) == {"evonorm_s0", "bn_relu", "no norm_act"}
