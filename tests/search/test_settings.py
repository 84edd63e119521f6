"""Settings from files and from the command line, as people mistype them."""

import pytest

from evonorm_tf.search import settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: [1", "not YAML"),
        (b"seed: \xff\xfe", "not YAML"),
        (b"[" * 5000, "not YAML: nested too deeply"),
        (b"seed: 2024-13-40", "not YAML"),
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
