"""Settings from files and from the command line, as people mistype them."""

import pytest

from evonorm_tf.search import data, settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: [1", "not YAML"),
        (b"seed: \xff\xfe", "not YAML"),
        (b"[" * 5000, "not YAML: nested too deeply"),
        (b"seed: 0x_", "not YAML"),
        (b"seed: 1\nseed: 2", "'seed' is duplicated"),
        (b"- 1", "YAML mapping"),
        (b"", "YAML mapping"),
    ],
)
def test_a_file_that_is_no_config_is_named(content, message, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        settings.read(str(path))
    assert "small.yaml" in str(raised.value)


@pytest.mark.parametrize("text", ["anchors=[resnet", "seed", "a=" + "[" * 5000])
def test_an_assignment_that_is_none_is_named(text):
    with pytest.raises(ValueError, match="Received: "):
        settings.assignment(text)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("name", ["seconds", "decay", "rate"])
def test_settings_are_finite(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be finite"):
        settings.make(settings.assignment(f"{name}={value}"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("stability=1e8", 1e8),
        ("decay=1e-4", 1e-4),
        ("decay=1.0e-4", 1e-4),
        ("seconds=90", 90.0),
        ("trials=1e3", 1000),
        ("trials=1_000", 1000),
        ("workers=010", 10),
        ("anchors=[resnet]", ("resnet",)),
    ],
)
def test_numbers_are_read_as_they_are_written(text, value, tmp_path):
    name = text.partition("=")[0]
    path = tmp_path / "one.yaml"
    path.write_text(text.replace("=", ": "))
    for layer in (settings.assignment(text), settings.read(str(path))):
        found = getattr(settings.make(layer), name)
        assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anchors=[[a]]", r"`anchors` must be among .*anchors=\[\['a'\]\]"),
        ("anchors=[{a: b}]", r"each once.*anchors=\[\{'a': 'b'\}\]"),
        ("anchors=resnet", r"a list, such as \[resnet\].*anchors='resnet'"),
        ("references=bn_relu", r"a list, such as \[resnet\]"),
        ("seconds=" + "9" * 400, "`seconds` must be finite"),
        ("seconds=1:30", "`seconds` must be a float.*seconds='1:30'"),
        ("timeout=1:30.5", "`timeout` must be a float.*timeout='1:30.5'"),
        ("trials=1:30", "`trials` must be an int.*trials='1:30'"),
        ("trials=1.5", "`trials` must be an int.*trials=1.5"),
        ("trials=2024-13-40", "`trials` must be an int"),
        ("trials=true", "`trials` must be an int.*trials=True"),
        ("rejection=no", r"`rejection` must be a bool \(true or false\)"),
        ("rejection=0", r"`rejection` must be a bool \(true or false\)"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        settings.make(settings.assignment(text))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"examples": 10}, "at most 10.*examples=10"),
        ({"stability_batch": 100_000}, "at most 1052.*stability_batch=100000"),
        ({"validation": 1300}, "at most 52.*validation=1300"),
    ],
)
def test_too_few_images_are_said_by_the_settings_that_take_them(
    changes, message
):
    with pytest.raises(ValueError, match=message):
        data.load(settings.make(settings.DEBUG, changes))


@pytest.mark.parametrize("name", settings.configs())
def test_every_config_has_images_with_debug(name):
    made = settings.make(settings.read(name), settings.DEBUG)
    images = data.load(made)
    assert images.train.shape[1:] == (8, 8, 1)
    assert len(images.validation) == 300
