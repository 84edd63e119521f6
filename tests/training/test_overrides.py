"""Configs as text: each value is what was written, or refused by name.

Valid files, keys and values are changed at random.
"""

import copy
import math
import pathlib

import hypothesis
import pytest
from hypothesis import strategies as st

from classification import experiment as _classification  # noqa: F401
from detection import experiment as _detection  # noqa: F401
from evonorm_tf import yaml_text
from gan import experiment as _gan  # noqa: F401
from training import config, overrides
from training.same_experiment import flat

ROOT = pathlib.Path(__file__).parents[2] / "configs"
EXPERIMENTS = {
    "classification": "imagenet",
    "detection": "coco_maskrcnn",
    "gan": "biggan",
}
FILES = [
    (EXPERIMENTS[head], path.read_text())
    for head in EXPERIMENTS
    for path in sorted((ROOT / head).glob("*.yaml"))
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20) | st.integers(-3, 3),
    st.just(10**400),
    st.floats(),
    st.text(max_size=8),
)
VALUES = SCALARS | st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.integers(), inner, max_size=2
        )
    ),
    max_leaves=4,
)
few = hypothesis.settings(max_examples=30, deadline=None)
many = hypothesis.settings(max_examples=20_000, deadline=None)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("a.b=c,d.e=1e-3", {"a": {"b": "c"}, "d": {"e": 1e-3}}),
        ("a=1, b = 'x,y', c=[1,[2.5]]", {"a": 1, "b": "x,y", "c": [1, [2.5]]}),
        ("a={b: 1, c: [2]},d=", {"a": {"b": 1, "c": [2]}, "d": None}),
        ("a=/data/[v1]/x *?#.tfrecord", {"a": "/data/[v1]/x *?#.tfrecord"}),
        ("a=gs://b/c d=e #f: g", {"a": "gs://b/c d=e #f: g"}),
        ("a=train[:50%]", {"a": "train[:50%]"}),
        (
            "a=1_000,b=0x10,c=-.5,d=5.",
            {"a": 1000, "b": 16, "c": -0.5, "d": 5.0},
        ),
        # In YAML 1.1: 8, 90, a date.
        (
            "a=010,b=1:30,c=2020-01-01",
            {"a": "010", "b": "1:30", "c": "2020-01-01"},
        ),
        ("{a: b=c}", {"a": "b=c"}),
        ("a:\n  b: yes\n", {"a": {"b": "yes"}}),
        ("runtime.compile=off", {"runtime": {"compile": "off"}}),
    ],
)
def test_what_is_written_is_what_is_read(text, wanted):
    assert overrides.parse(text) == wanted


@pytest.mark.parametrize(
    "texts, wanted",
    [
        (["a.b=1", "a.c=2", ""], {"a": {"b": 1, "c": 2}}),
        (["a.b=[1]", "{d: x, a: {b: [1]}}"], {"a": {"b": [1]}, "d": "x"}),
        ([], {}),
    ],
)
def test_several_are_merged(texts, wanted):
    assert overrides.parse(texts) == wanted


@pytest.mark.parametrize(
    "texts, key",
    [
        (["a.b=1", "c=1", "a: {b: 2}"], "a.b"),
        (["a.b=1", "a.b=true"], "a.b"),
        (["a.b=1", "a=2"], "a"),
        (["a=2", "a.b=1"], "a"),
    ],
)
def test_several_with_other_values_of_a_key_are_refused(texts, key):
    with pytest.raises(
        ValueError, match=f"Two overrides of {key};.*'{texts[0]}'"
    ):
        overrides.parse(texts)


@pytest.mark.parametrize(
    "text, message",
    [
        ("a=1,b", "Received: 'b' in"),
        ("a='b' c", "quote a value"),
        ("a=[1]x", "quote a value"),
        ("a=[1", "not YAML"),
        ("a='b", "not YAML"),
        ("a=1,a=2", "Two overrides of a;"),
        ("a=1,a.b=2", "Two overrides of a.b"),
        ("a.b=1,a=2", "Two overrides of a;"),
        ("{a: 1, a: 2}", "'a' is duplicated"),
        ("{[1]: 2}", "must be a string"),
        ("[" * 10**5, "nested too deeply"),
        ("a: 0x_", "not YAML"),
    ],
)
def test_what_is_no_override_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        overrides.parse(text)


def test_a_file_that_is_no_config_is_named(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_bytes(b"a: \xff")
    with pytest.raises(ValueError, match=r"not YAML: .*config_file=.*small"):
        overrides.read(str(path))


def _parsed(experiment, **given):
    """The experiment; None where it is refused by name."""
    try:
        return config.parse(experiment, **given)
    except ValueError as error:
        assert "Received: " in str(error), repr(error)
        assert len(str(error)) < 10**6
        return None


def _check(params):
    """That every number of a config is one."""
    for key, value in flat(params.as_dict()).items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, float):
                assert math.isfinite(one), key


@st.composite
def _damaged(draw):
    """An experiment, and a file of it with a few changes."""
    experiment, text = draw(st.sampled_from(FILES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        end = at + draw(st.sampled_from([0, 1, 3, 20]))
        new = draw(
            st.text(max_size=3)
            | st.sampled_from(list("[]{}:,'\"&*!|>\t\n#-01e."))
        )
        new = draw(st.sampled_from([new, text[at:end] * 2]))
        text = text[:at] + new + text[end:]
    return experiment, text


def _damaged_files(given, folder):
    experiment, text = given
    path = folder / "file.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    params = _parsed(experiment, config_files=[str(path)])
    if params is not None:
        _check(params)


@few
@hypothesis.given(_damaged())
def test_damaged_files_are_read_or_refused(tmp_path_factory, given):
    _damaged_files(given, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@many
@hypothesis.given(_damaged())
def test_damaged_files_are_read_or_refused_often(tmp_path_factory, given):
    _damaged_files(given, tmp_path_factory.getbasetemp())


KEYS = {
    name: sorted(flat(config.parse(name).as_dict()))
    for name in EXPERIMENTS.values()
}


@st.composite
def _changes(draw):
    """An experiment, one of its keys or a section, and any value for it."""
    experiment = draw(st.sampled_from(sorted(KEYS)))
    parts = draw(st.sampled_from(KEYS[experiment])).split(".")
    parts = parts[: draw(st.integers(1, len(parts)))]
    return experiment, parts, draw(VALUES)


def _changed(given):
    experiment, parts, value = given
    tree = copy.deepcopy(value)
    for part in reversed(parts):
        tree = {part: tree}
    params = _parsed(experiment, params_override=tree)
    if params is None or not tree[parts[0]]:
        return
    _check(params)
    found = params.as_dict()
    for part in parts:
        found = found[part]
    if not isinstance(value, dict):
        assert found == value, "another value than was written"


@few
@hypothesis.given(_changes())
def test_any_value_of_any_key_is_kept_or_refused(given):
    _changed(given)


@pytest.mark.slow
@many
@hypothesis.given(_changes())
def test_any_value_of_any_key_is_kept_or_refused_often(given):
    _changed(given)


def _read_back(value, path):
    """A value through an override in quotes, and a path as it stands."""
    text = yaml_text.dump(value, default_flow_style=True, width=10**9)
    quoted = f"a.b={text.removesuffix('...' + chr(10)).strip()}"
    if value and not isinstance(value, str):
        hypothesis.assume("{" in text or "[" in text)
        assert overrides.parse(quoted) == {"a": {"b": value}}
    assert overrides.parse(f"a=/{path},b=1") == {"a": f"/{path}", "b": 1}


@pytest.mark.parametrize("text", ["0E0", "1e5", "tRue", "010", "1:30", "~"])
def test_text_that_looks_like_more_is_written_in_quotes(text):
    """As params.yaml, which a resumed run is compared with, is written."""
    written = yaml_text.dump({"a": {"b": text}}, default_flow_style=True)
    quoted = written.strip().removeprefix("{a: {b: ").removesuffix("}}")
    assert overrides.parse(f"a.b={quoted}") == {"a": {"b": text}}


PATHS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters=","),
    min_size=1,
)
LISTS = st.lists(st.integers() | st.text(), max_size=4)


@few
@hypothesis.given(LISTS, PATHS)
def test_lists_and_paths_are_read_back(value, path):
    _read_back(value, path)


@pytest.mark.slow
@many
@hypothesis.given(LISTS, PATHS)
def test_lists_and_paths_are_read_back_often(value, path):
    _read_back(value, path)
