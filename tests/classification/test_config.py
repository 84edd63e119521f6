"""Experiments, overrides, schedules: what is accepted, what is refused."""

import pytest
from official.core import config_definitions

from classification import settings, task
from evonorm_tf.training import config, schedule, strategy


def test_defaults_then_file_then_flag_then_override(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "task: {weight_decay: 0.5, model: {width: 2, dropout: 0.5}}\n"
    )
    params = config.parse(
        "digits_resnet",
        [str(file)],
        "bn_relu",
        "task.weight_decay=1e-3,task.model.norm_act.groups=4",
    )
    assert isinstance(params.task, settings.Task)
    assert params.task.weight_decay == 1e-3
    assert params.task.model.width == 2.0
    assert params.task.model.dropout == 0.5
    assert params.task.model.norm_act.name == "bn_relu"
    assert params.task.model.norm_act.groups == 4


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        (
            "task.train_data.tfds_dir=x",
            ValueError,
            ["task.train_data.tfds_dir", "tfds_data_dir"],
        ),
        ("trainer.train_steps=ten", TypeError, ["train_steps", "'ten'"]),
        ("trainer.train_steps=true", TypeError, ["train_steps", "bool"]),
        ("task=3", TypeError, ["section", "train_data"]),
        (
            "trainer.optimizer_config.optimizer.type=sdg",
            ValueError,
            ["optimizer.type", "sgd"],
        ),
        (
            "{task: {schedule: {boundaries: [0.5, half]}}}",
            TypeError,
            ["boundaries"],
        ),
        ("just words", TypeError, ["params_override"]),
    ],
)
def test_bad_override_names_the_key_and_the_way_out(override, error, words):
    with pytest.raises(error) as caught:
        config.parse("digits_resnet", params_override=override)
    for word in words:
        assert word in str(caught.value)


def test_unknown_experiment_layer_and_file_name_what_there_is():
    with pytest.raises(ValueError, match="digits_resnet"):
        config.parse("digit_resnet")
    with pytest.raises(ValueError, match="evonorm_s0"):
        config.parse("digits_resnet", norm_act="evonorm_s00")
    with pytest.raises(ValueError, match=r"nowhere\.yaml"):
        config.parse("digits_resnet", ["nowhere.yaml"])


def test_two_different_layers_are_a_contradiction():
    key = "task.model.norm_act.name"
    with pytest.raises(ValueError, match="Two layers"):
        config.parse("digits_resnet", (), "frn", f"{key}=bn_relu")
    same = config.parse("digits_resnet", (), "frn", f"{key}=frn")
    assert same.task.model.norm_act.name == "frn"


def test_unknown_network_names_the_nearest():
    params = config.parse(
        "digits_resnet", params_override="task.model.network=resnet_50"
    )
    with pytest.raises(ValueError, match="resnet50"):
        task.prepare(params)


def _resolved(batch, **settings):
    trainer = config_definitions.TrainerConfig()
    plan = schedule.Schedule(
        epochs=9, base_learning_rate=0.1, base_batch_size=256, **settings
    )
    schedule.resolve(trainer, plan, examples=5120, batch=batch)
    return trainer


def test_rate_scales_with_the_batch_and_epochs_do_not_change():
    for batch, steps in ((512, 90), (64, 720)):
        trainer = _resolved(batch, warmup_epochs=1)
        rate = trainer.optimizer_config.learning_rate.cosine
        assert trainer.train_steps == steps
        assert rate.decay_steps == steps
        assert rate.initial_learning_rate == pytest.approx(0.1 * batch / 256)
        warmup = trainer.optimizer_config.warmup.linear.warmup_steps
        assert warmup == 5120 // batch


def test_stepwise_is_30_60_80_of_90_epochs():
    trainer = _resolved(512, decay="stepwise")
    stepwise = trainer.optimizer_config.learning_rate.stepwise
    assert stepwise.boundaries == [30, 60, 80]
    assert stepwise.values == pytest.approx([0.2, 0.02, 0.002, 0.0002])


def test_impossible_schedules_and_strategies_are_refused():
    with pytest.raises(ValueError, match="cosine"):
        _resolved(64, decay="cosin")
    with pytest.raises(ValueError, match="no step"):
        schedule.resolve(
            config_definitions.TrainerConfig(),
            schedule.Schedule(epochs=0),
            examples=10,
            batch=4,
        )
    with pytest.raises(ValueError, match="mirrored"):
        strategy.build(strategy.Runtime(distribution_strategy="mirorred"))
    two = strategy.build(strategy.Runtime(cpu_replicas=2))
    assert two.num_replicas_in_sync == 2
    with pytest.raises(ValueError, match="replicas"):
        strategy.describe(two, 5)
