"""YAML as people write it: of configs, settings, overrides and records."""

import re
from typing import Any, ClassVar

import yaml


class Loader(yaml.SafeLoader):
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
    """Quotes text that YAML 1.1 or `Loader` would read as another type."""

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
    for _class in (Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), None
        )


def parse(text: str | bytes, received: str) -> Any:
    """Returns the value of a YAML text.

    Args:
      text: in UTF-8 if it is bytes.
      received: names it in an error, such as "config='a.yaml'".

    Raises:
      ValueError: if it is not YAML.
    """
    try:
        return yaml.load(text, Loader=Loader)
    except RecursionError:
        reason = "nested too deeply"
    # ValueError: invalid numbers.
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
    raise ValueError(f"This is not YAML: {reason}. Received: {received}")


def mapping(text: str | bytes, received: str) -> dict[str, Any]:
    """Returns the mapping that a config file contains; see `parse`."""
    content = parse(text, received)
    if not isinstance(content, dict):
        raise ValueError(
            f"A config file must contain a YAML mapping. Received: {received}"
        )
    return content


def dump(value: Any, **options: Any) -> str:
    """Returns a value as YAML text, which `parse` reads as the same value.

    Args:
      value: of mappings, lists, text, numbers, booleans and None.
      **options: of `yaml.dump`.
    """
    return yaml.dump(value, Dumper=_Dumper, **options)
