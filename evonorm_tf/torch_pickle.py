"""Reads state dicts from .pth files of PyTorch before 1.6, without PyTorch.

Such a file contains five pickles: a magic number, the version of the protocol,
facts about the machine, the state dict with a reference in place of each
tensor's storage, and the keys of the storages. After them, each storage is
stored as its number of elements (int64) and its elements. Later versions write
a zip archive, which `torch.load` and `safetensors.numpy.save_file` convert.

Unpickling can execute arbitrary code. This reader resolves only the names
listed below, and rejects files that need others.
"""

import collections
import os
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "u1",
}


class _Storage:
    """The elements of a storage, which follow the tensors that view them."""

    def __init__(self, dtype: str, size: int):
        self.dtype, self.size = np.dtype(dtype), size
        self.elements = np.zeros(0, dtype)


class _Tensor:
    """A view of a storage: the arguments of `_rebuild_tensor_v2`."""

    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset = storage, offset
        self.shape, self.strides = tuple(shape), tuple(strides)

    def array(self) -> np.ndarray:
        """Returns a contiguous copy of the elements."""
        last = sum(
            (n - 1) * step
            for n, step in zip(self.shape, self.strides, strict=True)
        )
        if min(self.offset, *self.strides, 0) < 0 or (
            0 not in self.shape and self.offset + last >= self.storage.size
        ):
            raise ValueError("a tensor extends beyond its storage")
        flat = self.storage.elements[self.offset :]
        strides = [step * flat.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(flat, self.shape, strides)
        return view.copy()


class _Unpickler(pickle.Unpickler):
    """Resolves only the names that occur in state dicts."""

    def __init__(self, file: BinaryIO, storages: dict[str, _Storage]):
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _DTYPES:
            return lambda: name  # Never called; it only identifies the type.
        raise ValueError(
            f"it needs {module}.{name}, which does not occur in a state dict"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, size, view = pid
        if kind != "storage" or view is not None:
            raise ValueError("it has a reference that is not a storage")
        dtype = _DTYPES[storage()]
        return self._storages.setdefault(key, _Storage(dtype, size))


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the arrays of a state dict by name.

    Args:
      path: a .pth file, written by `torch.save(model.state_dict(), path)`
        before PyTorch 1.6 or with `_use_new_zipfile_serialization=False`.

    Raises:
      ValueError: if it is a file of another kind, is truncated, or contains
        anything but named tensors.
    """
    storages: dict[str, _Storage] = {}
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":
                raise ValueError(
                    "it is a zip archive, as PyTorch writes since 1.6; "
                    "convert it with torch.load and "
                    "safetensors.torch.save_file"
                )
            file.seek(0)
            start = [_Unpickler(file, storages).load() for _ in range(2)]
            if start != [_MAGIC, _PROTOCOL]:
                raise ValueError("it does not start like one")
            _Unpickler(file, storages).load()  # Facts about the machine.
            entries = _Unpickler(file, storages).load()
            _read(file, _Unpickler(file, storages).load(), storages)
            _check(entries)
            return {name: entry.array() for name, entry in entries.items()}
    except (
        *(ValueError, pickle.UnpicklingError, EOFError, KeyError),
        *(TypeError, AttributeError, IndexError),
    ) as error:
        raise ValueError(
            "This is not a state dict that PyTorch before 1.6 wrote: "
            f"{error}. Received: path={os.fspath(path)!r}"
        ) from error


def _read(file: BinaryIO, keys: list, storages: dict[str, _Storage]) -> None:
    for key in keys:
        storage = storages[key]
        size = int.from_bytes(file.read(8), "little")
        data = file.read(storage.dtype.itemsize * storage.size)
        storage.elements = np.frombuffer(data, storage.dtype)
        if size != storage.size or len(storage.elements) != size:
            raise ValueError("it is truncated")


def _check(entries: Any) -> None:
    wrong = not isinstance(entries, dict) or [
        name
        for name, entry in entries.items()
        if not (isinstance(name, str) and isinstance(entry, _Tensor))
    ]
    if wrong:
        raise ValueError("it contains more than named tensors")
