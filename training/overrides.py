"""Config files and overrides as text: YAML, or `a.b=c,d.e=f`."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import yaml

from evonorm_tf import files


def read(path: str) -> dict[str, Any]:
    """Reads a config file: a YAML mapping.

    Raises:
      ValueError: if the file does not exist or is not a YAML mapping.
    """
    if not files.is_file(path):
        raise ValueError(
            f"There is no such config file. Received: config_file={path!r}"
        )
    content = _yaml(files.read_text(path), f"config_file={path!r}")
    if not isinstance(content, dict):
        raise ValueError(
            "A config file must contain a YAML mapping. "
            f"Received: config_file={path!r}"
        )
    return content


class _Loader(yaml.SafeLoader):
    """Reads YAML with unique keys, and scalars as in YAML 1.2.

    YAML 1.1 reads 010 as 8, 1:30 as 90, and off, on, yes and no as booleans,
    and requires a point in exponents.
    """

    yaml_implicit_resolvers: ClassVar[dict] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False):
        """Rejects keys that are duplicated or are not strings."""
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            text = isinstance(key, yaml.ScalarNode)
            if not text or keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    "a mapping",
                    node.start_mark,
                    f"the key {key.value!r} is duplicated"
                    if text
                    else "a key must be a string",
                    key.start_mark,
                )
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or `_Loader` would read as another type."""

    yaml_implicit_resolvers: ClassVar[dict] = {
        first: list(resolvers)
        for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


_NUMBER = r"(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
_NUMBER += r"|[0-9][0-9_]*[eE][-+]?[0-9]+"
for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"(?i:true|false)",
    "int": r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)",
    "float": rf"[-+]?(?:{_NUMBER})|(?i:[-+]?\.inf|\.nan)",
    "merge": "<<",
}.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), None
        )


def as_yaml(value: Any, **options: Any) -> str:
    """Returns a value as YAML text, which is read back as the same value.

    Args:
      value: of mappings, lists, text, numbers, booleans and None.
      **options: of `yaml.dump`.
    """
    return yaml.dump(value, Dumper=_Dumper, **options)


def _yaml(text: str, received: str) -> Any:
    """Parses YAML text, or raises ValueError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        reason = "it is nested too deeply"
    # ValueError: invalid numbers.
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
    raise ValueError(f"This is not YAML: {reason}. Received: {received}")


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
    content = _yaml(changes, f"params_override={changes!r}")
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
        for event in yaml.parse(text, Loader=_Loader):
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
        return _yaml(text, received)
    # Not all of YAML, in which " #" would begin a comment.
    loader, text = _Loader(""), text.strip()
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    return loader.construct_object(yaml.ScalarNode(tag, text))
