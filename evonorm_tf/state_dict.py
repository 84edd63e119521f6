"""Reads state dicts of PyTorch and assigns them to Keras layers.

The kernels of PyTorch are [C', C, k, k] for a convolution, [C, 1, k, k] for a
depthwise convolution and [C', C] for a linear layer. Those of Keras are
[k, k, C, C'], [k, k, C, 1] and [C, C'].
"""

import os
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from evonorm_tf import files, torch_pickle, versions

# Permutations from PyTorch's axes to ours.
_KERNELS = {
    "Conv2D": (2, 3, 1, 0),
    "DepthwiseConv2D": (2, 3, 0, 1),
    "Dense": (1, 0),
}
_SHOWN = 5
# What numpy.load raises for a damaged .npy or .npz file, and for another file.
DAMAGED = (
    EOFError,
    RuntimeError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(weights: str | os.PathLike | Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of a state dict by name, as arrays.

    Args:
      weights: a .safetensors, .npz or .pth file, or a mapping of names to
        arrays. A .pth file must be from PyTorch before 1.6; see
        `torch_pickle`.

    Raises:
      ValueError: if it is another kind of file, or a .pth file that is not a
        state dict.
      ImportError: if a .safetensors file needs the missing package.
    """
    if not isinstance(weights, Mapping):
        weights = _load(os.fspath(weights))
    return {name: np.asarray(value) for name, value in weights.items()}


def _load(path: str) -> Mapping[str, Any]:
    suffix = files.suffix(path)
    if suffix not in (".npz", ".pth", ".safetensors"):
        raise ValueError(
            "A state dict is read from a .safetensors, .npz or .pth file; "
            "write others with safetensors.torch.save_file("
            f"model.state_dict(), path). Received: weights={path!r}"
        )
    with files.local(path) as place:
        if suffix == ".pth":
            return torch_pickle.load(place)
        return _safetensors(place) if suffix == ".safetensors" else _npz(place)


def _npz(path: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return dict(file)
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _safetensors(path: str) -> dict[str, np.ndarray]:
    try:
        import safetensors
        from safetensors.numpy import load_file
    except ModuleNotFoundError as error:
        raise versions.missing(
            "A .safetensors file", error, "export"
        ) from error
    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> ValueError:
    return ValueError(
        f"The state dict cannot be read ({error}); copy it again. "
        f"Received: weights={path!r}"
    )


class Noting:
    """A Keras layers module that records some of the layers it creates.

    Args:
      layers: `keras.layers` or `tf_keras.layers`.
      made: list to which they are appended.
      kinds: their class names.
    """

    def __init__(
        self,
        layers: ModuleType,
        made: list[Any],
        kinds: Collection[str] = tuple(_KERNELS),
    ):
        self._layers, self._made, self._kinds = layers, made, kinds

    def __getattr__(self, name: str) -> Any:
        kind = getattr(self._layers, name)
        if name not in self._kinds:
            return kind

        def make(*args, **kwargs):
            self._made.append(kind(*args, **kwargs))
            return self._made[-1]

        return make


def assign(
    layers: Mapping[str, Any],
    others: Mapping[str, Mapping[str, str]],
    entries: Mapping[str, np.ndarray],
    idle: Collection[str] = (),
) -> None:
    """Assigns values to layers: to all of them or, after an error, to none.

    Args:
      layers: layers with or without kernels, by their names in the state dict.
      others: for each class of layers without a kernel, the attribute for
        each of its entries.
      entries: the state dict.
      idle: entries that are allowed and ignored.

    Raises:
      ValueError: if an entry is missing, unknown or of the wrong shape; the
        message names it.
    """
    expected = {
        f"{name}.{part}": rest
        for name, layer in layers.items()
        for part, *rest in _weights(layer, others)
    }
    missing = [name for name in expected if name not in entries]
    unknown = [n for n in entries if n not in expected and n not in idle]
    if missing or unknown:
        raise ValueError(
            "The weights do not match the network and layer. Missing: "
            f"{_some(missing)}. Unknown: {_some(unknown)}. Check `network` "
            "and `norm_act`."
        )
    values, wrong = {}, []
    for name, (weight, axes) in expected.items():
        value = entries[name]
        # A linear layer's weight may be stored as that of a 1x1 convolution.
        if value.ndim == 4 and len(axes) == 2 and value.shape[2:] == (1, 1):
            value = value[:, :, 0, 0]
        shape = [0] * len(axes)
        for ours, theirs in enumerate(axes):
            shape[theirs] = weight.shape[ours]
        if list(value.shape) != shape:
            wrong.append(f"{name} {list(value.shape)}, not {shape}")
        else:
            values[name] = value.transpose(axes)
    if wrong:
        raise ValueError(
            f"Weights have other shapes than the network's: {_some(wrong)}. "
            "Check `network`."
        )
    for name, (weight, _) in expected.items():
        weight.assign(values[name])


def _weights(
    layer: Any, others: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Returns (suffix of the entry, our weight, permutation of its axes)."""
    kind = type(layer).__name__
    if kind not in _KERNELS:
        for theirs, ours in others[kind].items():
            weight = getattr(layer, ours, None)
            if weight is not None:
                yield theirs, weight, (0,)
        return
    # tf_keras names a depthwise kernel differently.
    kernel = getattr(layer, "depthwise_kernel", None)
    yield "weight", layer.kernel if kernel is None else kernel, _KERNELS[kind]
    if layer.bias is not None:
        yield "bias", layer.bias, (0,)


def _some(names: Any) -> str:
    """Lists the first few names."""
    names = list(names)
    more = len(names) - _SHOWN
    more = f" and {more} more" if more > 0 else ""
    return (", ".join(names[:_SHOWN]) or "none") + more
