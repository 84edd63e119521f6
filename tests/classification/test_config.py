"""Experiments, overrides, schedules: what is accepted, what is refused."""

import pytest
from official.core import config_definitions

from classification import experiment, settings, task
from configs import tables
from evonorm_tf import nets
from training import config, schedule, strategy


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
    ("override", "words"),
    [
        (
            "task.train_data.tfds_dir=x",
            ["task.train_data.tfds_dir", "tfds_data_dir"],
        ),
        ("trainer.train_steps=ten", ["train_steps", "'ten'"]),
        ("trainer.train_steps=true", ["train_steps", "bool"]),
        ("task=3", ["section", "train_data"]),
        (
            "trainer.optimizer_config.optimizer.type=sdg",
            ["optimizer.type", "sgd"],
        ),
        (
            "{task: {schedule: {boundaries: [0.5, half]}}}",
            ["boundaries"],
        ),
        ("just words", ["params_override"]),
    ],
)
def test_bad_override_names_the_key_and_the_way_out(override, words):
    with pytest.raises(ValueError) as caught:
        config.parse("digits_resnet", params_override=override)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_bracket_in_an_override_needs_no_quotes(quote):
    text = f"task.train_data.split={quote}train[:50%]{quote},task.seed=1"
    params = config.parse("digits_resnet", params_override=text)
    assert params.task.train_data.split == "train[:50%]"
    assert params.task.seed == 1


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


ROW = "imagenet/r50-aug/evonorm_b0"
LAYER = "task.model.norm_act.name"


def test_row_then_file_then_flag_then_override(tmp_path):
    file = tmp_path / "over.yaml"
    file.write_text(
        "task: {weight_decay: 0.5, label_smoothing: 0.5, schedule: {epochs: 7}}"
    )
    row = tables.find(ROW)
    alone = config.parse(row=row).task
    assert alone.model.norm_act.name == "evonorm_b0"
    assert alone.train_data.randaugment_layers == 2  # its last file
    assert (alone.weight_decay, alone.schedule.epochs) == (1e-4, 90)
    over = config.parse(
        config_files=[str(file)],
        norm_act="evonorm_b0",  # the row's own is no contradiction
        params_override="task.label_smoothing=0.1,task.schedule.epochs=8",
        row=row,
    ).task
    assert (over.weight_decay, over.schedule.epochs) == (0.5, 8)
    assert over.label_smoothing == 0.1
    assert over.train_data.randaugment_layers == 2


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"experiment": "cifar10_resnet"}, ["imagenet", "cifar10_resnet"]),
        ({"norm_act": "bn_relu"}, ["Two layers", "evonorm_b0", "bn_relu"]),
        ({"params_override": f"{LAYER}=frn"}, ["Two layers", "frn"]),
        ({"config_files": ["layer.yaml"]}, ["Two layers", "gn_relu"]),
    ],
)
def test_a_row_and_another_experiment_or_layer_contradict(
    asked, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layer.yaml").write_text(
        "task: {model: {norm_act: {name: gn_relu}}}"
    )
    with pytest.raises(ValueError) as caught:
        config.parse(row=tables.find(ROW), **asked)
    for word in words:
        assert word in str(caught.value)


def test_a_section_that_is_off_can_be_switched_on_checked_and_off_again():
    key = "trainer.optimizer_config.ema"
    on = config.parse("digits_resnet", (), None, f"{key}.average_decay=0.5")
    assert on.trainer.optimizer_config.ema.average_decay == 0.5
    with pytest.raises(ValueError, match=rf"{key}.decay.*average_decay"):
        config.parse("digits_resnet", (), None, f"{key}.decay=0.5")
    row = tables.find("imagenet/effnet_b0/bn_relu")
    assert config.parse(row=row).trainer.optimizer_config.ema is not None
    off = config.parse(row=row, params_override=f"{key}=null")
    assert off.trainer.optimizer_config.ema is None


def test_the_networks_own_settings_stand_where_none_is_given():
    def filled(override):
        params = config.parse("imagenet", params_override=override)
        experiment.fill_in(params.task)
        model, data = params.task.model, params.task.train_data
        return model.dropout, model.stochastic_depth, data.image_size

    own = nets.get("efficientnet_b3")
    network = "task.model.network=efficientnet_b3"
    assert filled(network) == (own.dropout, own.stochastic_depth, 300)
    assert own.dropout > 0 and own.stochastic_depth > 0
    zero = "task.model.dropout=0,task.model.stochastic_depth=0"
    size = "task.train_data.image_size=64"
    assert filled(f"{network},{zero},{size}") == (0.0, 0.0, 64)


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
    with pytest.raises(ValueError, match="at least one step"):
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
