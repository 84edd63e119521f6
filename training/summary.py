"""What a run prints before its first step."""

from typing import Any

from absl import logging

from training import config, runs


def settings(params: config.Experiment) -> str:
    """Returns the main settings and versions, for the screen.

    The whole config is logged: --verbosity=0 shows it.
    """
    logging.info("Config:\n%s", runs.as_yaml(params))
    model = params.task.model
    optimizer = params.trainer.optimizer_config
    main = [
        getattr(model, "network", ""),
        model.norm_act.name,
        f"batch {params.task.train_data.global_batch_size}",
        f"{params.trainer.train_steps} steps",
        f"{optimizer.optimizer.type}, {_rate(optimizer)}",
        params.runtime.mixed_precision_dtype or "float32",
    ]
    versions = [f"{k} {v}" for k, v in runs.versions().items()]
    return f"{', '.join(filter(None, main))}; {', '.join(versions)}"


def place(start: int, total: int, model_dir: str) -> str:
    """Describes where a run begins and ends."""
    if not start:
        return f"{total} steps, into {model_dir}"
    return f"Resuming from step {start} of {total} in {model_dir}"


def _rate(optimizer: Any) -> str:
    """Describes the learning rate: its kind, initial value and warm-up."""
    kind = optimizer.learning_rate.type
    chosen = optimizer.learning_rate.get()
    values = getattr(chosen, "values", None) or [None]
    found = (
        getattr(chosen, "initial_learning_rate", None),
        getattr(chosen, "learning_rate", None),
        values[0],
    )
    first = next((value for value in found if value is not None), None)
    text = f"{kind} learning rate" + ("" if first is None else f" {first:g}")
    warmup = optimizer.warmup.get() if optimizer.warmup else None
    steps = getattr(warmup, "warmup_steps", 0)
    return text + (f" after {steps} steps of warm-up" if steps else "")
