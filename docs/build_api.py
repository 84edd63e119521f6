"""Writes docs/api.md from the docstrings of what is public.

python docs/build_api.py
"""

import functools
import importlib
import inspect
import pathlib
import re
import textwrap
from typing import Any

PAGE = pathlib.Path(__file__).with_name("api.md")
# Modules in reading order; of each what it exports, else what it defines.
MODULES = (
    "evonorm_tf",
    "evonorm_tf.catalog",
    "evonorm_tf.graphs",
    "evonorm_tf.preflight",
)
_SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields")
_TITLE = re.compile(rf"^({'|'.join(_SECTIONS)}):$")
_ADDRESS = re.compile(r"<(?:[^<>]|<\w+>)* at 0x[0-9a-f]+>|<factory>")
_ENTRY = re.compile(r"^(\*{0,2}\w[\w, *]*): (.*)$", re.S)


def page() -> str:
    """The whole page."""
    parts = [
        "# API\n",
        "Written by `python docs/build_api.py` from the docstrings; do not "
        "edit it. `evonorm_tf.legacy` has the layers of `evonorm_tf` for "
        "tf_keras.\n",
    ]
    for name in MODULES:
        module = importlib.import_module(name)
        parts.append(f"## {name}\n")
        parts.append(_body(inspect.getdoc(module) or ""))
        parts += [
            _item(f"{name}.{key}", value) for key, value in _public(module)
        ]
    return "\n".join(parts).rstrip() + "\n"


def _public(module: Any) -> list[tuple[str, Any]]:
    names = getattr(module, "__all__", None) or [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
    ]
    found = [(name, getattr(module, name)) for name in names]
    return [one for one in found if callable(one[1])]


def _item(name: str, value: Any) -> str:
    lines = [f"### {name}\n", _call(name, value)]
    if isinstance(value, functools.partial):
        given = ", ".join(map(repr, value.args))
        return "\n".join([*lines, f"`{value.func.__name__}({given}, ...)`\n"])
    lines.append(_body(inspect.getdoc(value) or ""))
    if inspect.isclass(value):
        init = vars(value).get("__init__")
        said = inspect.getdoc(init) if init else ""
        if said and said != inspect.getdoc(object.__init__):
            lines.append(_body(said))
    return "\n".join(lines)


def _call(name: str, value: Any) -> str:
    """The call as one block of code, an argument a line if it is long."""
    try:
        signature = inspect.signature(value)
    except ValueError:
        return ""
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    last = name.split(".")[-1]
    shown = f"{last}{inspect.Signature(plain)}"
    if len(shown) > 80 and plain:
        inner = ",\n".join(f"    {one}" for one in _arguments(plain))
        shown = f"{last}(\n{inner},\n)"
    # A default that is an object says where it lies, another place each time.
    return f"```\n{_ADDRESS.sub('...', shown)}\n```\n"


def _arguments(parameters: list[inspect.Parameter]) -> list[str]:
    text = str(inspect.Signature(parameters))[1:-1]
    return re.split(r", (?![^(\[{]*[)\]}])", text)


def _body(docstring: str) -> str:
    """A Google docstring as Markdown."""
    blocks = docstring.strip().split("\n\n")
    return "\n".join(_block(block) for block in blocks if block.strip())


def _block(block: str) -> str:
    first, _, rest = block.partition("\n")
    title = _TITLE.match(first)
    if title:
        return f"**{title[1]}**\n\n" + _entries(rest)
    if block.startswith("    "):
        return f"```\n{textwrap.dedent(block)}\n```\n"
    return block + "\n"


def _entries(text: str) -> str:
    """`name: what it is`, its later lines indented, as a list."""
    found: list[str] = []
    for line in textwrap.dedent(text).splitlines():
        if line.startswith(" ") and found:
            found[-1] += " " + line.strip()
        else:
            found.append(line.strip())
    lines = []
    for entry in found:
        named = _ENTRY.match(entry)
        said = f"`{named[1]}`: {named[2]}" if named else entry
        lines.append(
            textwrap.fill(said, 80, initial_indent="- ", subsequent_indent="  ")
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"Written: {PAGE}")
