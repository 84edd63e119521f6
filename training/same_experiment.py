"""Whether two configs are of the same experiment, and for what purpose.

A run may resume another's checkpoint only as the same experiment; a run fills
a row of a table only as the row's experiment. The two allow different things
to differ, and both lists stand here. Configs are compared by dotted key.
"""

import fnmatch
import math
from collections.abc import Mapping
from typing import Any

Flat = Mapping[str, Any]
SECTIONS = {
    "resume": ("task.", "trainer.optimizer_config."),
    # Reading a checkpoint, to evaluate or export it.
    "read": ("task.model.", "trainer.optimizer_config.ema"),
    "row": ("task.", "trainer.optimizer_config."),
}
# Data may have moved. What is measured and how long the run is, a run may
# change where its learning rate does not depend on it.
_RESUME = (
    *("*.tfds_data_dir", "*.path", "*.input_path", "*.annotation_file"),
    *("*.examples", "*.num_examples", "*.validation_epochs"),
    *("task.validation_data.global_batch_size", "task.schedule.epochs"),
)
# What changes nothing but chance, names, places, speed and what is shown; of
# an evaluation, also how its data are read: each example once in any case.
_READING = (
    *("global_batch_size", "cache", "cycle_length", "block_length"),
    *("ram_budget", "deterministic", "sharding", "prefetch_buffer_size"),
    *("autotune_algorithm", "parser.max_num_instances"),
    "parser.mask_crop_size",
)
_DATA = (
    *("seed", "path", "tfds_data_dir", "input_path"),
    *("examples", "shuffle_buffer_size"),
)
_ROW = (
    *("task.name", "task.seed", "task.annotation_file"),
    *("task.evaluation.path", "task.evaluation.reference"),
    *("task.allow_image_summary", "task.per_category_metrics"),
    "task.schedule.validation_epochs",
    *(f"task.validation_data.{key}" for key in _READING),
    *(
        f"task.{split}_data.{k}"
        for split in ("train", "validation")
        for k in _DATA
    ),
)
FREE = {"resume": _RESUME, "read": (), "row": _ROW}


def relevant(config: Flat, purpose: str) -> dict[str, Any]:
    """Of a config, what must be equal.

    Args:
      config: resolved, by dotted key.
      purpose: "resume", "read" or "row".
    """
    free = FREE[purpose]
    if purpose == "row" and (
        config.get("task.init_checkpoint_modules") == "backbone"
    ):
        # A recipe that starts from a classifier: which place it is at is
        # free. What it was trained by is not: `task.init_recipe`.
        free = (*free, "task.init_checkpoint")
    return {
        key: value
        for key, value in config.items()
        if key.startswith(SECTIONS[purpose])
        and not any(fnmatch.fnmatchcase(key, pattern) for pattern in free)
    }


def differences(
    one: Flat, other: Flat, purpose: str, defaults: Flat | None = None
) -> dict[str, tuple[Any, Any]]:
    """What keeps two configs from being the same experiment; {} for nothing.

    A run that was recorded before a setting came to be lacks its key: that
    counts as the setting switched off, or at its default.

    Args:
      one: a resolved config by dotted key.
      other: another.
      purpose: "resume", "read" or "row".
      defaults: of the config classes, by dotted key.

    Returns:
      Both values by key; None where a config lacks the key.
    """
    return compare(relevant(one, purpose), relevant(other, purpose), defaults)


def compare(
    one: Flat, other: Flat, defaults: Flat | None = None
) -> dict[str, tuple[Any, Any]]:
    """As `differences`, of all keys that there are."""
    found = {}
    for key in dict.fromkeys([*one, *other]):
        old = any(_unknown(key, config) for config in (one, other))
        pair = (one.get(key), other.get(key))
        value = pair[key not in one]
        if old and (not value or _same(value, (defaults or {}).get(key))):
            continue
        if not _same(*pair):
            found[key] = pair
    return found


def _unknown(key: str, config: Flat) -> bool:
    """Whether neither `key` nor a section that holds it is there.

    {"ema": None} does know "ema.average_decay": it is off.
    """
    parts = key.split(".")
    above = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    return not any(name in config for name in above)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    numbers = [
        isinstance(x, (int, float)) and not isinstance(x, bool)
        for x in (one, other)
    ]
    if all(numbers):
        return math.isclose(one, other, rel_tol=1e-9)
    return one == other


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    result: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result
