"""The state of a search, in one SQLite file that only its driver writes.

There is one transaction per stage: what a worker finished is committed before
anything depends on it, and a driver that was killed resumes from there. Between
transactions the file holds everything, so a copy of it is the whole search. A
driver that is killed within a transaction leaves a second file beside it, with
which the next command undoes that transaction.
`finished` numbers the trials in the order in which they ended, which defines
age in the population.
"""

import fcntl
import json
import os
import sqlite3
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

from evonorm_tf import files
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.evolution import Proposal
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome

# Version of the meaning of graphs, mutations, filters and stages. Trials of
# different versions are not comparable.
VERSION = 4
FILE = "journal.sqlite"
# Why a search without a further graph to propose ends.
EXHAUSTED = "no new graph"
# Seconds to wait while another process reads or writes the file; both take
# milliseconds.
_PATIENCE = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trial (
  id INTEGER PRIMARY KEY,
  graph TEXT NOT NULL,
  parent INTEGER,
  rejected TEXT NOT NULL,
  verdict TEXT,
  reason TEXT,
  finished INTEGER UNIQUE
);
CREATE TABLE IF NOT EXISTS stage (
  trial INTEGER NOT NULL REFERENCES trial (id),
  name TEXT NOT NULL,
  result TEXT NOT NULL,
  reason TEXT NOT NULL,
  cpu REAL NOT NULL,
  PRIMARY KEY (trial, name)
);
CREATE TABLE IF NOT EXISTS uncharged (
  graph TEXT NOT NULL,
  name TEXT NOT NULL,
  result TEXT NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (graph, name)
);
"""


class Trial(NamedTuple):
    """A row of the journal.

    Attributes:
      number: of the trial.
      graph: text form.
      parent: number of the parent trial, or None.
      rejected: number of graphs that were rejected before it, by reason.
      verdict: "accepted", "rejected", or None for an unfinished trial.
      reason: of a rejection: the stage and what was found.
      results: measurements by stage.
    """

    number: int
    graph: str
    parent: int | None
    rejected: dict[str, int]
    verdict: str | None
    reason: str
    results: dict[str, dict[str, Any]]


class Stage(NamedTuple):
    """A finished stage: why it ended its trial, or "", and CPU seconds."""

    trial: int
    name: str
    reason: str
    cpu: float


class End(NamedTuple):
    """The end of a search.

    Attributes:
      reason: the limit that was reached, such as "trials=60", or EXHAUSTED;
        "" if the search runs, or was killed.
      rejected: number of graphs that were rejected after the last proposal,
        by reason.
    """

    reason: str
    rejected: dict[str, int]


class Uncharged(NamedTuple):
    """A stage outside the search: its result and the reason to reject."""

    result: dict[str, Any]
    reason: str


class Journal:
    """The open journal of a run.

    Args:
      folder: of the run; created if it does not exist.
      identity: the settings that a journal belongs to; None to only read it.

    Raises:
      ValueError: if the journal has results of other settings or is of another
        version, has lost its tables, or does not exist when it is to be read.
      RuntimeError: if another driver has it open.
    """

    def __init__(self, folder: str, identity: Mapping[str, Any] | None):
        folder = _local(folder)
        path = os.path.join(folder, FILE)
        self._lock = None
        if identity is None:
            if not os.path.isfile(path):
                raise ValueError(
                    "There is no search in that folder. "
                    f"Received: output={folder!r}"
                )
            # In a URL, ? and # of the path must be quoted.
            # Not mode=ro: SQLite must be able to undo a transaction within
            # which the driver was killed.
            url = f"file:{urllib.parse.quote(path)}?mode=rw"
            self._db = sqlite3.connect(url, uri=True, timeout=_PATIENCE)
            self._db.execute("PRAGMA query_only=ON")
            self._require_tables(folder)
            self._check_version(folder)
            return
        os.makedirs(folder, exist_ok=True)
        self._lock = _locked(path + ".lock", folder)
        self._db = sqlite3.connect(path, timeout=_PATIENCE)
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        if pages:
            self._require_tables(folder)
        # With a write-ahead log, which older searches have, the newest stages
        # would be in a second file that a copy of this one lacks.
        self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        self._identify({**identity, "version": VERSION}, folder)

    def _require_tables(self, folder: str) -> None:
        """Refuses a file that a search began but whose tables are elsewhere."""
        tables = "SELECT 1 FROM sqlite_master WHERE name = 'trial'"
        if self._db.execute(tables).fetchone():
            return
        self.close()
        raise ValueError(
            f"{FILE} has no tables. Either a search has only just begun, or "
            f"the file was copied without the {FILE}-wal beside it, in which "
            "earlier versions kept the newest results. How to fix it: copy "
            "both files, or delete this one to start a new search. "
            f"Received: output={folder!r}"
        )

    def _identify(self, identity: dict[str, Any], folder: str) -> None:
        known = self.identity()
        other = [
            f"{k}={known.get(k)!r} there and {identity.get(k)!r} now"
            for k in sorted(known.keys() | identity.keys())
            if known.get(k) != identity.get(k)
        ]
        if not other:
            return
        if known.get("version", VERSION) != VERSION or self._has_results():
            self.close()
            raise ValueError(
                "The folder contains a search with other settings: "
                f"{'; '.join(other)}. Use those, or another --output. "
                f"Received: output={folder!r}"
            )
        # It is new, or nothing was measured, such as without images.
        rows = [(k, json.dumps(v)) for k, v in identity.items()]
        with self._db:
            self._db.execute("DELETE FROM trial")
            self._db.execute("DELETE FROM run")
            self._db.executemany("INSERT INTO run VALUES (?, ?)", rows)

    def _has_results(self) -> bool:
        return any(
            self._db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
            for table in ("stage", "uncharged")
        )

    def _check_version(self, folder: str) -> None:
        version = self.identity().get("version")
        if version != VERSION:
            self.close()
            raise ValueError(
                f"The folder contains a search of version {version}, but this "
                f"is version {VERSION}: read it with the code that wrote it. "
                f"Received: output={folder!r}"
            )

    def settings(self) -> Settings:
        """Returns the settings that the journal belongs to."""
        identity = self.identity()
        identity.pop("version")
        return settings_lib.make(identity)

    def identity(self) -> dict[str, Any]:
        """Returns the journal's settings and its version."""
        rows = self._rows("SELECT name, value FROM run WHERE name != 'end'")
        return {n: _decoded(value, f"setting {n}") for n, value in rows}

    def end(self, end: End | None) -> None:
        """Records why the search ends; None when it begins or resumes."""
        with self._db:
            self._db.execute("DELETE FROM run WHERE name = 'end'")
            if end is not None:
                self._db.execute(
                    "INSERT INTO run VALUES ('end', ?)", (json.dumps(end),)
                )

    def ended(self) -> End:
        """Returns why the search ended, if it did."""
        rows = self._rows("SELECT value FROM run WHERE name = 'end'")
        return End(*_decoded(rows[0][0], "the end")) if rows else End("", {})

    def propose(self, trial: int, proposal: Proposal) -> None:
        """Records that a trial begins."""
        graph, parent, rejected = proposal
        with self._db:
            self._db.execute(
                "INSERT INTO trial (id, graph, parent, rejected) "
                "VALUES (?, ?, ?, ?)",
                (trial, graph.text(), parent, json.dumps(rejected)),
            )

    def record(self, outcome: Outcome, reason: str, last: bool) -> None:
        """Records a finished stage, and the verdict if it decides one.

        Args:
          outcome: of the stage.
          reason: why the trial ends here; "" if it passed.
          last: whether a trial that passes is accepted with this stage.
        """
        trial, stage, _ = outcome.task
        result = json.dumps(outcome.result)
        with self._db:
            self._db.execute(
                "INSERT INTO stage VALUES (?, ?, ?, ?, ?)",
                (trial, stage, result, reason, outcome.cpu),
            )
            if reason or last:
                self._db.execute(
                    "UPDATE trial SET verdict = ?, reason = ?, finished = "
                    "(SELECT 1 + COALESCE(MAX(finished), 0) FROM trial) "
                    "WHERE id = ?",
                    (
                        "rejected" if reason else "accepted",
                        f"{stage}: {reason}" if reason else "",
                        trial,
                    ),
                )

    def record_uncharged(self, outcome: Outcome, reason: str) -> None:
        """Records a measurement outside the search; see `references`.

        It replaces an earlier one of the same stage.
        """
        _, stage, graph = outcome.task
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO uncharged VALUES (?, ?, ?, ?)",
                (graph, stage, json.dumps(outcome.result), reason),
            )

    def uncharged(self) -> dict[str, dict[str, Uncharged]]:
        """Returns measurements outside the search, by graph and stage."""
        found: dict[str, dict[str, Uncharged]] = {}
        for graph, name, result, reason in self._rows(
            "SELECT graph, name, result, reason FROM uncharged ORDER BY rowid"
        ):
            where = f"stage {name} of layer {graph!r} beside the search"
            measured = Uncharged(_decoded(result, where), reason)
            found.setdefault(graph, {})[name] = measured
        return found

    def trials(self) -> list[Trial]:
        """Returns all trials: finished ones in order, then the others."""
        # First the trials: a stage that ends meanwhile is one too many, not one
        # that an accepted trial lacks.
        rows = self._rows(
            "SELECT id, graph, parent, rejected, verdict, reason FROM trial "
            "ORDER BY finished IS NULL, finished, id"
        )
        results: dict[int, dict[str, Any]] = {}
        for number, name, result in self._rows(
            "SELECT trial, name, result FROM stage"
        ):
            found = _decoded(result, f"stage {name} of trial {number}")
            results.setdefault(number, {})[name] = found
        return [
            Trial(
                number,
                graph,
                parent,
                _decoded(rejected, f"trial {number}, rejected"),
                verdict,
                reason or "",
                results.get(number, {}),
            )
            for number, graph, parent, rejected, verdict, reason in rows
        ]

    def stages(self) -> list[Stage]:
        """Returns every finished stage, in the order of their ends."""
        rows = self._rows(
            "SELECT trial, name, reason, cpu FROM stage ORDER BY rowid"
        )
        return [Stage(*row) for row in rows]

    def _rows(self, query: str) -> list[tuple]:
        # All at once: the driver cannot write while a reader is between rows.
        return self._db.execute(query).fetchall()

    def close(self) -> None:
        """Closes the file and releases the lock."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)


def _decoded(text: Any, where: str) -> Any:
    """Returns a value of the journal; `where` names it in an error."""
    try:
        return json.loads(text)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The journal is damaged: {where} is not JSON ({error}). How to "
            "fix it: restore it from a copy, or give another --output. "
            f"Received: {text!r:.100}"
        ) from error


def _local(folder: str) -> str:
    """Returns the folder as a path that SQLite can open."""
    folder = files.normalize(folder)
    if not files.is_local(folder):
        raise ValueError(
            "A search's journal is a database that is locked while it is "
            "written, so its folder must be on a local file system. Copy the "
            f"folder after the search. Received: output={folder!r}"
        )
    return folder


def _locked(path: str, folder: str) -> int:
    # The lock is released when the process ends, however that happens.
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise RuntimeError(
            "Another search is writing to that folder; wait for it, or give "
            f"another --output. Received: output={folder!r}"
        ) from error
    return handle
