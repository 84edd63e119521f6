"""Compares two configs: are they of the same experiment, for a purpose?

A run may resume a checkpoint only of the same experiment, several workers run
one, and a run belongs to a row of a table only if it is the row's experiment.
Each purpose allows other settings to differ; the lists are here. Configs are
compared by dotted key.
"""

import copy
import fnmatch
import math
from collections.abc import Mapping
from typing import Any

Flat = Mapping[str, Any]
# Between the devices of the parts of a run, in its record.
THEN = ", then "
_NUMBERS = (
    "runtime.mixed_precision_dtype",
    "runtime.loss_scale",
    "runtime.accumulation_steps",
)
SECTIONS = {
    "resume": ("task.", "trainer.optimizer_config.", *_NUMBERS),
    # Reading a checkpoint, to evaluate or export it.
    "read": ("task.model.", "trainer.optimizer_config.ema"),
    "row": ("task.", "trainer.optimizer_config."),
    # Of the workers of one run, which wait for one another.
    "worker": ("",),
}
_MOVED = (
    "*.tfds_data_dir",
    "*.path",
    "*.input_path",
    "*.annotation_file",
    "*.examples",
    "*.num_examples",
)
# The data may have moved. A run may change its metrics and its length if its
# learning rate does not depend on them.
_RESUME = (
    *_MOVED,
    "*.validation_epochs",
    "task.validation_data.global_batch_size",
    "task.schedule.epochs",
    "task.evaluation.truncations",  # Only pictures depend on it.
)
# Settings that affect only randomness, names, paths, speed and output; for an
# evaluation also how its data are read, as each example counts once anyway.
_READING = (
    "global_batch_size",
    "cache",
    "cycle_length",
    "block_length",
    "ram_budget",
    "deterministic",
    "sharding",
    "prefetch_buffer_size",
    "autotune_algorithm",
    "parser.max_num_instances",
    "parser.mask_crop_size",
)
_DATA = (
    "seed",
    "path",
    "tfds_data_dir",
    "input_path",
    "examples",
    "shuffle_buffer_size",
)
_ROW = (
    "task.name",
    "task.seed",
    "task.annotation_file",
    "task.evaluation.path",
    "task.evaluation.reference",
    "task.evaluation.truncations",
    "task.allow_image_summary",
    "task.per_category_metrics",
    "task.schedule.validation_epochs",
    *(f"task.validation_data.{key}" for key in _READING),
    *(
        f"task.{split}_data.{k}"
        for split in ("train", "validation")
        for k in _DATA
    ),
)
# Data may be elsewhere on each host.
_WORKER = (*_MOVED, "runtime.num_gpus", "runtime.cpu_replicas")
FREE = {"resume": _RESUME, "read": (), "row": _ROW, "worker": _WORKER}


def relevant(config: Flat, purpose: str) -> dict[str, Any]:
    """Returns the part of a config that must be equal.

    Args:
      config: resolved, by dotted key.
      purpose: a key of `SECTIONS`.
    """
    free = FREE[purpose]
    if purpose == "row" and (
        config.get("task.init_checkpoint_modules") == "backbone"
    ):
        # For a recipe that starts from a classifier, the path of that is
        # ignored, but not how it was trained: `task.init_recipe`.
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
    """Returns the differences between two experiments; {} if equal.

    A run that was recorded before a setting existed lacks its key, which counts
    as the setting being off or at its default.

    Args:
      one: a resolved config by dotted key.
      other: another.
      purpose: a key of `SECTIONS`.
      defaults: of the config classes, by dotted key.

    Returns:
      Both values by key; None if a config lacks the key.
    """
    return compare(relevant(one, purpose), relevant(other, purpose), defaults)


def compare(
    one: Flat, other: Flat, defaults: Flat | None = None
) -> dict[str, tuple[Any, Any]]:
    """Returns the differences in all keys, whatever the purpose."""
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
    """Returns whether neither `key` nor a section containing it exists.

    {"ema": None} does define "ema.average_decay": it is off.
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
    """Converts {"a": {"b": 1}} to {"a.b": 1}."""
    result: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def nested(dotted: Flat) -> dict[str, Any]:
    """Converts {"a.b": 1} to {"a": {"b": 1}}."""
    result: dict[str, Any] = {}
    for key, value in dotted.items():
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = copy.deepcopy(value)
    return result
