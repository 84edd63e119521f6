"""State dicts in .pth files of PyTorch before 1.6, read without PyTorch.

Such a file is five pickles in a row: a magic number, the version of the
protocol, facts about the machine, the state dict with a reference in the place
of every tensor's storage, and the storages' keys; then each storage, its
number of elements as int64 and its elements. (Later versions write a zip
archive. `torch.load` and `safetensors.numpy.save_file` convert those.)

A pickle can run any code. Here only the names below are found; a file that
needs another one is refused.
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
    """Elements that are read after the tensors that view them are known."""

    def __init__(self, dtype: str, size: int):
        self.dtype, self.size = np.dtype(dtype), size
        self.elements = np.zeros(0, dtype)


class _Tensor:
    """A view of a storage, as `torch._utils._rebuild_tensor_v2` takes it."""

    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset = storage, offset
        self.shape, self.strides = tuple(shape), tuple(strides)

    def array(self) -> np.ndarray:
        """A copy of the elements, contiguous."""
        last = sum(
            (n - 1) * step
            for n, step in zip(self.shape, self.strides, strict=True)
        )
        if min(self.offset, *self.strides, 0) < 0 or (
            0 not in self.shape and self.offset + last >= self.storage.size
        ):
            raise ValueError("a tensor reaches beyond its storage")
        flat = self.storage.elements[self.offset :]
        strides = [step * flat.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(flat, self.shape, strides)
        return view.copy()


class _Unpickler(pickle.Unpickler):
    """Finds the names that a state dict consists of, and no others."""

    def __init__(self, file: BinaryIO, storages: dict[str, _Storage]):
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _DTYPES:
            return lambda: name  # Never called: it stands for the type.
        raise ValueError(
            f"it needs {module}.{name}, which no state dict of numbers has"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, size, view = pid
        if kind != "storage" or view is not None:
            raise ValueError("it refers to something that is no storage")
        dtype = _DTYPES[storage()]
        return self._storages.setdefault(key, _Storage(dtype, size))


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name.

    Args:
      path: a .pth file, written by `torch.save(model.state_dict(), path)`
        before PyTorch 1.6 or with `_use_new_zipfile_serialization=False`.

    Raises:
      ValueError: for another kind of file, one that is cut off, or one that
        holds more than tensors by name.
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
                raise ValueError("it does not start as one")
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
            raise ValueError("it ends too early")


def _check(entries: Any) -> None:
    wrong = not isinstance(entries, dict) or [
        name
        for name, entry in entries.items()
        if not (isinstance(name, str) and isinstance(entry, _Tensor))
    ]
    if wrong:
        raise ValueError("it holds more than tensors by name")
