"""A pool that measures nothing: results follow from the graph's key."""

import pathlib
import sqlite3

from evonorm_tf import graphs
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.stages import Outcome

SMALL = {
    **settings_lib.DEBUG,
    "population": 8,
    "tournament": 0.25,
    "trials": 40,
    "seconds": 0.0,
    "workers": 1,
}


def small(**changes):
    return settings_lib.make(SMALL, changes)


def outcome(task, quality=0.2):
    """Numbers from 0 to 1 that depend on the graph and the stage alone."""
    key = graphs.key(graphs.parse(task.graph)) + task.stage
    number = (hash_of(key) % 997) / 997
    if task.stage == "stability":
        result = {"norm": 1e9 if number < 0.2 else 7.0, "steps": 5}
    else:
        result = {"accuracy": number, "loss": 1.0, "steps": 100}
    return Outcome(task, result, "", 0.5)


def hash_of(text):
    total = 0
    for letter in text:
        total = (31 * total + ord(letter)) % 2**31
    return total


class FakePool:
    """Finishes one task a wait; raises Killed after so many."""

    def __init__(self, lives=None, slots=1):
        self.tasks, self.lives, self.slots = [], lives, slots

    @property
    def free(self):
        return self.slots - len(self.tasks)

    def submit(self, task):
        self.tasks.append(task)

    def wait(self, seconds):
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                raise KilledError
        return [outcome(self.tasks.pop(0))]

    def close(self):
        pass


class KilledError(Exception):
    """Stands for a driver's end between two transactions."""


def dump(folder):
    """All that a journal holds, as lines of SQL."""
    path = pathlib.Path(folder) / "journal.sqlite"
    with sqlite3.connect(path) as db:
        return list(db.iterdump())
