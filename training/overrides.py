"""Config files and overrides as text: YAML, or `a.b=c,d.e=f`."""

import re
from collections.abc import Sequence
from typing import Any

import yaml

from evonorm_tf import files, yaml_text


def read(path: str) -> dict[str, Any]:
    """Reads a config file: a YAML mapping.

    Raises:
      ValueError: if the file does not exist or is not a YAML mapping.
    """
    if not files.is_file(path):
        raise ValueError(
            f"There is no such config file. Received: config_file={path!r}"
        )
    return yaml_text.mapping(files.read(path), f"config_file={path!r}")


def parse(changes: str | dict | Sequence[str] | None) -> dict:
    """Parses overrides in any of their forms to nested keys.

    Args:
      changes: `a.b=c,d.e=f`, YAML text, the path of a YAML file, several of
        these or a dict.

    Raises:
      ValueError: if it is not a YAML mapping, or has a duplicate key; of
        several, if two give a key different values.
    """
    if not changes:
        return {}
    if isinstance(changes, (list, tuple)):
        merged: dict = {}
        for one in changes:
            _merge(merged, parse(one), "", f"params_override={changes!r}")
        return merged
    if isinstance(changes, dict):
        return changes
    if files.is_file(changes):
        return read(changes)
    if _KEY.match(changes):
        return _assignments(changes)
    content = yaml_text.parse(changes, f"params_override={changes!r}")
    if not isinstance(content, dict):
        raise ValueError(
            "params_override must be `a.b=c,...`, a YAML mapping or the path "
            f"of a YAML file. Received: params_override={changes!r}"
        )
    return content


def _merge(tree: dict, changes: dict, where: str, received: str) -> None:
    """Adds nested keys to a tree, which must not have them differently."""
    for key, value in changes.items():
        old = tree.get(key)
        if key not in tree:
            tree[key] = value
        elif isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value, f"{where}{key}.", received)
        elif type(old) is not type(value) or old != value:
            raise ValueError(
                f"Two overrides of {where}{key}; give one, or put the other "
                f"in a --config_file, which they override. Received: {received}"
            )


_KEY = re.compile(r"\s*([A-Za-z_][\w.]*)\s*=\s*")
_ENDS = (yaml.ScalarEvent, yaml.AliasEvent, yaml.CollectionEndEvent)
_END = re.compile(r"\s*(?:,|$)")


def _assignments(text: str) -> dict:
    """Parses `a.b=c,d.e=f` to nested keys.

    A value is a YAML scalar, quoted if it contains a comma, or a list or
    mapping in brackets. No other character has a meaning, so paths need no
    quotes.
    """
    received = f"params_override={text!r}"
    result: dict = {}
    place = 0
    while place < len(text):
        key = _KEY.match(text, place)
        first = key.end() if key else place
        last = first + _length(text[first:], received)
        end = _END.match(text, last)
        if key is None or end is None:
            raise ValueError(
                "Overrides must be a.b=c,d.e=f; quote a value that contains a "
                "comma or begins with a bracket or quote: "
                "\"a.split='train,test'\". "
                f"Received: {text[place:]!r} in {received}"
            )
        value = _value(text[first:last], received)
        if not _set(result, key[1].split("."), value):
            raise ValueError(
                f"Two overrides of {key[1]}; give one. Received: {received}"
            )
        place = end.end()
    return result


def _set(tree: dict, key: list[str], value: Any) -> bool:
    """Sets a nested key; returns whether it was not set before."""
    for part in key[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            return False
    if key[-1] in tree:
        return False
    tree[key[-1]] = value
    return True


def _length(text: str, received: str) -> int:
    """Returns the length of the value at the beginning of a text."""
    if text[:1] not in ("'", '"', "[", "{"):
        return len(text.partition(",")[0])
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml_text.Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if not depth and isinstance(event, _ENDS):
                return event.end_mark.index
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(
            f"A value is not YAML: {' '.join(str(error).split())}. "
            f"Received: {received}"
        ) from error
    return len(text)


def _value(text: str, received: str) -> Any:
    """Parses the value of an override."""
    if text[:1] in ("'", '"', "[", "{"):
        return yaml_text.parse(text, received)
    # Not all of YAML, in which " #" would begin a comment.
    loader, text = yaml_text.Loader(""), text.strip()
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    return loader.construct_object(yaml.ScalarNode(tag, text))
