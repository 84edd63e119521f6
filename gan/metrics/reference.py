"""Stores statistics of real images in a file, with their provenance.

`mu` and `sigma` are stored where other programs expect them. All facts must
agree before statistics are used: a distance to a reference of another
extractor, resize or decoder is meaningless.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from evonorm_tf import files
from gan import sets
from gan.metrics.measure import Statistics
from gan.metrics.moments import Moments

_KEYS = ("mu", "sigma", "kept", "score", "facts")


def path_in(folder: str, facts: dict[str, str]) -> str:
    """Returns the path in a folder for the statistics of these facts."""
    return files.join(folder, f"reference-{digest(facts)[:12]}.npz")


def digest(facts: Any) -> str:
    """Returns the SHA-256 of facts, whatever their order."""
    text = json.dumps(facts, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()


def cached(
    path: str, facts: dict[str, str], make: Callable[[], Statistics]
) -> Statistics:
    """Returns the statistics in a file, which is created if needed.

    Args:
      path: the file.
      facts: what its facts must be.
      make: measures the statistics.

    Raises:
      ValueError: if the file has other facts; it is not changed.
    """
    if files.exists(path):
        found = load(path)
        require_same(found.facts, facts, path)
        return found
    found = make()
    save(found, path)
    return found


def save(statistics: Statistics, path: str) -> None:
    """Writes a file atomically."""
    # Not by name, because NumPy would add a suffix.
    with files.writing(path) as place, open(place, "wb") as file:
        np.savez(
            file,
            mu=statistics.moments.mean,
            sigma=statistics.moments.covariance(),
            kept=statistics.kept,
            score=np.array(statistics.score),
            facts=np.array(json.dumps(statistics.facts)),
        )


def holds_statistics(path: str) -> bool:
    """Returns whether a file contains statistics, of any origin."""
    try:
        with sets.arrays(path) as content:
            return "mu" in content
    except ValueError:
        return False  # Reading it as images reports the error.


def load(path: str) -> Statistics:
    """Reads a file written by `save`.

    Raises:
      ValueError: if it is damaged or another file, or has only mu and sigma
        without their provenance.
    """
    with sets.arrays(path) as content:
        missing = [key for key in _KEYS if key not in content]
        if not missing:
            facts = json.loads(str(content["facts"]))
            mean, deviation = content["score"]
            count = int(facts["count"])
            return Statistics(
                facts,
                Moments.known(count, content["mu"], content["sigma"]),
                content["kept"],
                (float(mean), float(deviation)),
            )
    raise ValueError(
        "A reference must have its provenance, but this one was written by "
        "another program. Create one from the images. "
        f"Received: path={path!r} without {', '.join(missing)}"
    )


def require_same(
    found: dict[str, str], wanted: dict[str, str], path: str
) -> None:
    """Rejects statistics with another provenance.

    Raises:
      ValueError: names the differences.
    """
    keys = [k for k in {**wanted, **found} if found.get(k) != wanted.get(k)]
    if keys:
        pairs = "; ".join(
            f"{key}: {found.get(key)!r}, wanted {wanted.get(key)!r}"
            for key in keys
        )
        raise ValueError(
            "The reference has another provenance. Use another file, or the "
            f"same settings. Received: path={path!r} with {pairs}"
        )
