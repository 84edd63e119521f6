"""Whether two resolved configs are those of one experiment.

Configs are flat here, by dotted key: see `rows.flat`.
"""

import math
from collections.abc import Mapping
from typing import Any

_SECTIONS = ("task.", "trainer.optimizer_config.")
# How an evaluation's data are read: each example once, whatever these are.
_READING = (
    *("global_batch_size", "cache", "cycle_length", "block_length"),
    *("ram_budget", "deterministic", "sharding", "prefetch_buffer_size"),
    *("autotune_algorithm", "parser.max_num_instances"),
    "parser.mask_crop_size",
)
# Of these, what changes nothing but chance, names, places, speed and what is
# shown.
_FREE = {
    "task.name",
    "task.seed",
    "task.annotation_file",
    "task.evaluation.path",
    "task.evaluation.reference",
    "task.allow_image_summary",
    "task.per_category_metrics",
    "task.schedule.validation_epochs",
    *(f"task.validation_data.{key}" for key in _READING),
    *(
        f"task.{split}.{key}"
        for split in ("train_data", "validation_data")
        for key in (
            *("seed", "path", "tfds_data_dir", "input_path"),
            *("examples", "shuffle_buffer_size"),
        )
    ),
}


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a resolved config, all that decides what its run can reach."""
    free = set(_FREE)
    if settings.get("task.init_checkpoint_modules") == "backbone":
        # A recipe that starts from a classifier: which place it is at is
        # free. What it was trained by is not: `task.init_recipe`.
        free.add("task.init_checkpoint")
    return {
        key: value
        for key, value in settings.items()
        if key.startswith(_SECTIONS) and key not in free
    }


def differences(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, tuple[Any, Any]]:
    """Where two configs differ: the key, and both values.

    A run that was recorded before a setting came to be lacks its key: that
    counts as equal to the setting switched off, or at its default.

    Args:
      one: a config by dotted key.
      other: another.
      defaults: of the config classes.
    """
    found = {}
    for key in dict.fromkeys([*one, *other]):
        old = any(_unknown(key, settings) for settings in (one, other))
        pair = (one.get(key), other.get(key))
        value = pair[key not in one]
        if old and (not value or _same(value, (defaults or {}).get(key))):
            continue
        if not _same(*pair):
            found[key] = pair
    return found


def _unknown(key: str, settings: Mapping[str, Any]) -> bool:
    """Whether neither `key` nor a section that holds it is there.

    {"ema": None} does know "ema.average_decay": it is off.
    """
    parts = key.split(".")
    above = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    return not any(name in settings for name in above)


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
