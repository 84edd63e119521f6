"""What a conversion did, as a table."""

import dataclasses
from collections.abc import Sequence

_HEADS = ("layer", "old", "new", "channels", "groups", "note")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
      layer: the name, after those of the models it is nested in.
      old: what it was, with its activation.
      new: the catalog name of what it is now; empty for what was left.
      channels: C; None where unknown or of no concern.
      groups: channel groups; None for layers without.
      note: why it was left, or what to know of it.
    """

    layer: str
    old: str
    new: str = ""
    channels: int | None = None
    groups: int | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """What `evonorm_tf.convert` did; `print(report)` shows the table.

    Attributes:
      entries: normalization layers, then activations outside of all sites.
      notes: what holds for the whole model.
    """

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many layers are new, by catalog name, and how many were left."""
        found: dict[str, int] = {}
        for entry in self.entries:
            key = entry.new or "left"
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
