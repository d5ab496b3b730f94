"""Reading the pickle in `pytorch_model.bin` as data: nothing in it is imported, called or executed.

Python's unpickler can execute arbitrary code. A state dict needs only containers, text, numbers and one function,
`torch._utils._rebuild_tensor_v2`, so a small stack machine over `pickletools.genops` converts it to `TensorSpec`s.
Any other name or operation is an error.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class UnsupportedPickle(ValueError):
    """The pickle uses something that a state dict of tensors does not need."""


@dataclass(frozen=True)
class TensorSpec:
    """The location of a tensor: `offset`, `shape` and `strides` count elements of the storage `key`."""

    key: str
    storage: str  # "FloatStorage", ...
    storage_size: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A global name, which is never looked up."""

    module: str
    name: str


_TENSOR = _Name("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = _Name("torch._utils", "_rebuild_parameter")
_ORDERED = _Name("collections", "OrderedDict")
_MARK = object()
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_state(data: bytes) -> dict[str, TensorSpec]:
    """Return the tensors in the pickled state dict `data`.

    Raises:
        UnsupportedPickle: it uses a name or operation that a state dict does not need.
        ValueError, IndexError, KeyError, TypeError: it is malformed.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for invalid escapes in strings
        operations = list(pickletools.genops(data))
    for operation, argument, _ in operations:
        name = operation.name
        if name == "STOP":
            break
        if name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(argument)] = stack[-1]  # type: ignore[arg-type]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])  # type: ignore[arg-type]
        elif name not in ("PROTO", "FRAME"):
            _step(name, argument, stack)
    state = stack.pop()
    if not isinstance(state, dict):
        raise UnsupportedPickle(f"it is a {type(state).__name__}, not a dict of tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, TensorSpec):
            raise UnsupportedPickle(f"its entry {key!r} is a {type(value).__name__}, not a tensor")
    return state


def _step(name: str, argument: Any, stack: list[Any]) -> None:
    if name in _VALUES:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
        stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[name])
    elif name in _TUPLES:
        stack.append(tuple(_pop(stack, _TUPLES[name])))
    elif name == "TUPLE":
        stack.append(tuple(_pop_to_mark(stack)))
    elif name in ("APPEND", "APPENDS"):
        items = _pop(stack, 1) if name == "APPEND" else _pop_to_mark(stack)
        stack[-1].extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = _pop(stack, 2) if name == "SETITEM" else _pop_to_mark(stack)
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name == "GLOBAL":
        stack.append(_check_name(*argument.split(" ", 1)))
    elif name == "STACK_GLOBAL":
        stack.append(_check_name(*_pop(stack, 2)))
    elif name == "BINPERSID":
        stack.append(_storage(stack.pop()))
    elif name == "REDUCE":
        function, arguments = _pop(stack, 2)
        stack.append(_apply(function, arguments))
    elif name == "BUILD":  # Attributes of the state dict, such as _metadata, are ignored.
        stack.pop()
    else:
        raise UnsupportedPickle(f"it uses the pickle operation {name}")


def _check_name(module: str, name: str) -> _Name:
    full_name = _Name(module, name)
    if full_name not in (_TENSOR, _PARAMETER, _ORDERED) and not (module == "torch" and name.endswith("Storage")):
        raise UnsupportedPickle(f"it uses '{module}.{name}', which is not needed for weights")
    return full_name


def _storage(reference: Any) -> tuple[str, str, int]:
    """Return (key, class, size) of a persistent id ``("storage", torch.XStorage, key, device, size)``."""
    kind, storage, key, _device, size = reference
    if kind != "storage" or not isinstance(storage, _Name) or not isinstance(key, str) or not isinstance(size, int):
        raise UnsupportedPickle("it refers to something other than the storage of a tensor")
    return key, storage.name, size


def _apply(function: Any, arguments: Any) -> Any:
    if function == _ORDERED:
        return dict(*arguments)
    if function == _PARAMETER:
        return arguments[0]
    if function == _TENSOR:
        (key, storage, size), offset, shape, strides = arguments[:4]
        return TensorSpec(key, storage, size, offset, tuple(shape), tuple(strides))
    raise UnsupportedPickle("it calls something other than the constructor of a tensor")


def _pop(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("the stack of the pickle is empty")
    items = stack[-count:]
    del stack[-count:]
    return items


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    for start in range(len(stack) - 1, -1, -1):
        if stack[start] is _MARK:
            items = stack[start + 1 :]
            del stack[start:]
            return items
    raise ValueError("the stack of the pickle has no mark")


# --- writing ------------------------------------------------------------------------------------------------


def write_state(tensors: Iterable[tuple[str, TensorSpec]]) -> bytes:
    """Return the pickle of a state dict with `tensors`, as `torch.load(weights_only=True)` reads it."""
    items = b"".join(_text(name) + _tensor(spec) for name, spec in tensors)
    return b"\x80\x02}(" + items + b"u."


def _tensor(spec: TensorSpec) -> bytes:
    storage = b"ctorch\n" + spec.storage.encode() + b"\n"
    reference = b"(" + _text("storage") + storage + _text(spec.key) + _text("cpu") + _number(spec.storage_size) + b"tQ"
    layout = _number(spec.offset) + _numbers(spec.shape) + _numbers(spec.strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + layout + b"\x89ccollections\nOrderedDict\n)RtR"


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _number(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_number(value) for value in values) + b"t"
