"""Statistics of real images, kept in a file with how they were made.

`mu` and `sigma` are where other programs look for them. What is said of them
must agree in all of it before they are used: a distance to a reference of
another extractor, resize or decoder is no distance.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from evonorm_tf import files
from gan.metrics.measure import Statistics
from gan.metrics.moments import Moments

_KEYS = ("mu", "sigma", "kept", "score", "facts")


def path_in(folder: str, facts: dict[str, str]) -> str:
    """Where a folder keeps the statistics of these facts."""
    return files.join(folder, f"reference-{digest(facts)[:12]}.npz")


def digest(facts: dict[str, Any]) -> str:
    """SHA-256 of facts, whatever their order."""
    text = json.dumps(facts, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()


def cached(
    path: str, facts: dict[str, str], make: Callable[[], Statistics]
) -> Statistics:
    """The statistics in a file, which is made where it is not there.

    Args:
      path: the file.
      facts: what must be known of it.
      make: measures.

    Raises:
      ValueError: a file of other facts, which is left as it is.
    """
    if files.exists(path):
        found = load(path)
        require_same(found.facts, facts, path)
        return found
    found = make()
    save(found, path)
    return found


def save(statistics: Statistics, path: str) -> None:
    """Writes a file so that a kill leaves a whole one or none."""
    # Not its name: NumPy adds a suffix where it misses one.
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
    """Whether a file has statistics in it, of whatever origin."""
    try:
        with (
            files.local(path) as place,
            np.load(place, allow_pickle=False) as file,
        ):
            return "mu" in file.files
    except (OSError, ValueError, zipfile.BadZipFile):
        return False  # What reads it as images says what it is.


def load(path: str) -> Statistics:
    """Reads a file that `save` wrote.

    Raises:
      ValueError: it is none; a file with mu and sigma alone too, for nothing
        says how they were made.
    """
    try:
        with (
            files.local(path) as place,
            np.load(place, allow_pickle=False) as file,
        ):
            content = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"The reference cannot be read ({error}). Received: path={path!r}"
        ) from error
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise ValueError(
            "A reference says how it was made; this one was written by "
            "another program. Make one of the images themselves. "
            f"Received: path={path!r} without {', '.join(missing)}"
        )
    facts = json.loads(str(content["facts"]))
    mean, deviation = content["score"]
    return Statistics(
        facts,
        Moments.known(int(facts["count"]), content["mu"], content["sigma"]),
        content["kept"],
        (float(mean), float(deviation)),
    )


def require_same(
    found: dict[str, str], wanted: dict[str, str], path: str
) -> None:
    """Refuses statistics that were made in another way.

    Raises:
      ValueError: says what differs.
    """
    keys = [k for k in {**wanted, **found} if found.get(k) != wanted.get(k)]
    if keys:
        pairs = "; ".join(
            f"{key}: {found.get(key)!r}, wanted {wanted.get(key)!r}"
            for key in keys
        )
        raise ValueError(
            "The reference was made in another way. Name another file, or "
            f"evaluate as it was made. Received: path={path!r} with {pairs}"
        )
