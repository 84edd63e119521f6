"""The result of a conversion as a table."""

import dataclasses
from collections.abc import Sequence

_HEADS = ("layer", "old", "new", "channels", "groups", "note")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the report.

    Attributes:
      layer: the name, preceded by those of the enclosing models.
      old: the old layer, with its activation.
      new: catalog name of the new layer; empty if the old one was left.
      channels: C; None if unknown or irrelevant.
      groups: channel groups; None for layers without groups.
      note: why the layer was left, or a remark.
      activation: whether the old layer is an activation that belongs to no
        normalization layer; such layers are always left.
    """

    layer: str
    old: str
    new: str = ""
    channels: int | None = None
    groups: int | None = None
    note: str = ""
    activation: bool = False


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `evonorm_tf.convert`; `print(report)` shows a table.

    Attributes:
      entries: normalization layers, then activations that belong to none.
      notes: remarks on the whole model.
    """

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Counts the new layers by catalog name, and the layers left.

        Normalization layers are under "left", activations under "left
        (activations)".
        """
        found: dict[str, int] = {}
        for entry in self.entries:
            left = "left (activations)" if entry.activation else "left"
            key = entry.new or left
            found[key] = found.get(key, 0) + 1
        return found

    def __str__(self) -> str:
        lines = [
            [
                entry.layer,
                entry.old,
                entry.new or "left",
                _cell(entry.channels),
                _cell(entry.groups),
                entry.note,
            ]
            for entry in self.entries
        ]
        counts = ", ".join(f"{n} {name}" for name, n in self.counts().items())
        return "\n".join([*_table(lines), counts, *self.notes])


def _cell(number: int | None) -> str:
    return "" if number is None else str(number)


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    rows = [_HEADS, *lines]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEADS))]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip()
        for row in rows
    ]
