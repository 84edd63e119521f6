"""State of layers that is in neither their configuration nor their variables.

Preprocessing layers keep what `adapt` has learned in tables and Python objects;
other layers write theirs with `save_assets`.
"""

import tempfile
from typing import Any


def parts(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """Returns (old, new) for a layer and everything inside it."""
    if not hasattr(old, "_flatten_layers"):  # A Keras 3 operation.
        return []
    return list(zip(old._flatten_layers(), new._flatten_layers()))


def copy_tables(old: Any, new: Any) -> None:
    """Copies vocabularies and the boundaries of bins, of inner layers too.

    The shape of a layer's output can depend on them, so they are copied before
    the new layer is called.
    """
    # Inner ones first: TextVectorization has the vocabulary of its lookup.
    for one, other in parts(old, new)[::-1]:
        if type(one) is not type(other):
            continue  # A layer inside that is created by its first call.
        if hasattr(one, "set_vocabulary"):
            _copy_vocabulary(one, other)
        elif hasattr(one, "input_bin_boundaries"):
            # tf_keras's configuration has only boundaries that were passed.
            other.bin_boundaries = one.bin_boundaries


def _copy_vocabulary(old: Any, new: Any) -> None:
    # Not by `save_assets`, a text file, where a token with a line break would
    # become two.
    words = old.get_vocabulary()
    if words == new.get_vocabulary():
        return
    weights = getattr(old, "idf_weights_const", None)
    if weights is None:
        new.set_vocabulary(words)
    else:  # They may be padded to a maximum number of words.
        new.set_vocabulary(words, weights[: len(words)])


def check_assets(layer: Any) -> None:
    """Checks that a copy of a layer can load what the layer can save.

    Raises:
      ValueError: if it, or a layer inside it, saves assets and loads none.
    """
    for one, _ in parts(layer, layer):
        if hasattr(one, "save_assets") and not hasattr(one, "load_assets"):
            raise ValueError(
                "A layer has state that cannot be copied: it has save_assets "
                "but no load_assets. Give its class load_assets(dir_path), "
                "which reads what save_assets(dir_path) writes. "
                f"Received: {one.name!r}, {type(one).__name__}"
            )


def copy_assets(old: Any, new: Any) -> None:
    """Copies what a layer, built like the new one, keeps in assets."""
    if hasattr(old, "save_assets") and not hasattr(old, "set_vocabulary"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)
