"""Interpret the pickles that ``torch.save`` writes, without running them.

No ``pickle.Unpickler`` and no import: opcodes act on plain values, and globals mean what
:mod:`.torch_globals` says, or end the reading.

Opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from ..errors import HeaderError, UnsafePickleError
from .torch_globals import ALLOWED, Inert, Name, call, checked_key, described, storage_of

MAX_PICKLE_BYTES = 64_000_000
_U16, _U32, _U64, _I32 = (struct.Struct("<" + code) for code in "HIQi")
_DOUBLE = struct.Struct(">d")  # the only big-endian number
_MAX_OPERATIONS = 2_000_000  # some 50,000 tensors; each operation can leave about 100 bytes behind


@dataclass(slots=True)
class _Machine:
    """A pickle machine's stack, memo and position. Every step is bounded by the bytes that are there."""

    data: bytes
    position: int = 0
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # stack heights
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self) -> Any:
        """Interpret up to STOP. Returns the value on top."""
        data, operations = self.data, _OPERATIONS
        for _ in range(_MAX_OPERATIONS):
            if self.position >= len(data):
                self.broken("it ends without its STOP")
            code = data[self.position]
            self.position += 1
            if code == _STOP:
                return self.pop()
            operation = operations.get(code)
            if operation is None:
                raise UnsafePickleError(
                    f"the pickle uses the operation 0x{code:02x} at byte {self.position - 1}, which saved tensors do "
                    f"not need; nothing was run"
                )
            operation(self)
        raise HeaderError(f"the pickle has more than {_MAX_OPERATIONS:,} operations; refused")

    def broken(self, why: str) -> NoReturn:
        raise HeaderError(f"the pickle is broken at byte {self.position}: {why}")

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            self.broken(f"{count:,} bytes are declared, {len(self.data) - self.position:,} are left")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def skip(self, count: int) -> None:
        self.take(count)

    def byte(self) -> int:
        if self.position >= len(self.data):
            self.broken("it ends inside an operation")
        value = self.data[self.position]
        self.position += 1
        return value

    def number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self.take(layout.size))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 1000)
        if end < 0:
            self.broken("a global's name does not end")
        return self.text(self.take(end + 1 - self.position)[:-1])

    def text(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.broken("a string is not UTF-8")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            self.broken("it takes a value that is not there")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        value = self.pop()
        if not isinstance(value, kind):
            self.broken(f"a {kind.__name__} is expected, a {type(value).__name__} is there")
        self.stack.append(value)
        return value

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            self.broken("a mark is missing")
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def remember(self, index: int) -> None:
        if not self.stack:
            self.broken("it stores a value that is not there")
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            self.broken(f"value {index} is used before it is stored")
        self.push(self.memo[index])

    # -- operations that need more than a line

    def open_mark(self) -> None:
        self.marks.append(len(self.stack))

    def drop(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def long(self) -> None:
        self.push(int.from_bytes(self.take(self.byte()), "little", signed=True))

    def bytes(self, count: int) -> None:
        self.skip(count)
        self.push(Inert("bytes"))

    def last(self, count: int) -> None:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            self.broken("it takes values that are not there")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.push(items)

    def global_name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnsafePickleError(f"the pickle names a global by {described(name)}; nothing was run")
        found = Name("builtins" if module == "__builtin__" else module, name)  # what Python 2 called it
        if found not in ALLOWED:
            raise UnsafePickleError(f"the pickle asks for {found}, which saved tensors do not need; nothing was run")
        self.push(found)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.global_name(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.push(call(function, arguments))

    def build(self) -> None:
        state = self.pop()
        self.top(dict)  # an OrderedDict's attributes, in practice a module's format versions
        if not isinstance(state, dict):
            self.broken("attributes are expected to be a dictionary")

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            self.broken("a key without its value")
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def append(self) -> None:
        value = self.pop()
        self.top(list).append(value)

    def appends(self) -> None:
        items = self.pop_to_mark()
        self.top(list).extend(items)


_STOP: Final = ord(".")
_OPERATIONS: Final[dict[int, Callable[[_Machine], None]]] = {
    0x80: lambda m: m.skip(1),  # PROTO
    0x95: lambda m: m.skip(8),  # FRAME: a hint for readers of streams
    ord("("): _Machine.open_mark,
    ord("0"): _Machine.drop,
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.push(m.number(_I32)),
    ord("K"): lambda m: m.push(m.byte()),
    ord("M"): lambda m: m.push(m.number(_U16)),
    0x8A: _Machine.long,  # LONG1
    ord("G"): lambda m: m.push(m.number(_DOUBLE)),
    ord("X"): lambda m: m.push(m.text(m.take(m.number(_U32)))),
    0x8C: lambda m: m.push(m.text(m.take(m.byte()))),  # SHORT_BINUNICODE
    0x8D: lambda m: m.push(m.text(m.take(m.number(_U64)))),  # BINUNICODE8
    ord("U"): lambda m: m.push(m.text(m.take(m.byte()))),  # SHORT_BINSTRING: a string of Python 2
    ord("C"): lambda m: m.bytes(m.byte()),  # SHORT_BINBYTES
    ord("B"): lambda m: m.bytes(m.number(_U32)),  # BINBYTES
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    0x85: lambda m: m.last(1),
    0x86: lambda m: m.last(2),
    0x87: lambda m: m.last(3),
    ord("]"): lambda m: m.push([]),
    ord("a"): _Machine.append,
    ord("e"): _Machine.appends,
    ord("}"): lambda m: m.push({}),
    ord("s"): _Machine.set_item,
    ord("u"): lambda m: m.set_items(m.pop_to_mark()),
    ord("q"): lambda m: m.remember(m.byte()),
    ord("r"): lambda m: m.remember(m.number(_U32)),
    0x94: lambda m: m.remember(len(m.memo)),  # MEMOIZE
    ord("h"): lambda m: m.recall(m.byte()),
    ord("j"): lambda m: m.recall(m.number(_U32)),
    ord("c"): lambda m: m.global_name(m.line(), m.line()),
    0x93: _Machine.stack_global,
    ord("R"): _Machine.reduce,
    ord("b"): _Machine.build,
    ord("Q"): lambda m: m.push(storage_of(m.pop())),
}


def interpret(data: bytes, start: int = 0) -> tuple[Any, int]:
    """The value of the pickle at ``start`` of ``data``, and where the pickle ends.

    Dictionaries, lists, tuples, strings and numbers are themselves; tensors are :class:`TensorRef`.

    Raises: UnsafePickleError for a global or an operation that is not on the list; HeaderError for a
    broken pickle or a tensor that does not fit into its storage.
    """
    machine = _Machine(data, start)
    return machine.run(), machine.position
