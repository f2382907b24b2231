"""Files that nobody means well with: builders, the reference corpus, and a runner with limits.

As a program (``python hostile.py MODULE:FUNCTION < paths``) it calls the function for every path in a process of
its own and writes one JSON line of outcome for each; :func:`outcomes` does that from a test.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared"
REASON = "the reference material (../shared) is not beside this checkout"
SECONDS = 5
MEGABYTES = 512  # above an idle start

Tensors = Mapping[str, tuple[str, Sequence[int], bytes]]  # dtype, shape, bytes


# -- builders ----------------------------------------------------------------------------------------


def safetensors_bytes(
    header: Mapping[str, Any] | str | bytes, data: bytes = b"", *, length: int | None = None
) -> bytes:
    """A file of a header, whatever it says, and data; ``length`` overrides the declared header size."""
    if isinstance(header, Mapping):
        header = json.dumps(header)
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def good_safetensors(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return safetensors_bytes(header, data)


def floats(count: int, start: float = 0.5) -> bytes:
    return struct.pack(f"<{count}f", *(start + index / 8 for index in range(count)))


def lora_tensors(
    layer: str = "lora_unet_mid_to_q", rank: int = 2, size: int = 4
) -> dict[str, tuple[str, list[int], bytes]]:
    return {
        f"{layer}.alpha": ("F32", [], struct.pack("<f", 1.0)),
        f"{layer}.lora_down.weight": ("F32", [rank, size], floats(rank * size)),
        f"{layer}.lora_up.weight": ("F32", [size, rank], floats(rank * size, -1.0)),
    }


def op_text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def op_int(value: int) -> bytes:
    if 0 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def op_global(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def op_tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def op_dict(entries: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(op_text(key) + value for key, value in entries.items()) + b"u"


def op_tensor(
    key: str,
    count: int,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int = 0,
    kind: str = "torch.FloatStorage",
    *,
    legacy: bool = False,
) -> bytes:
    """The call that rebuilds a tensor; ``count`` is what the pickle says the storage holds."""
    if strides is None:
        strides = [prod(shape[index + 1 :]) for index in range(len(shape))]
    extra = (b"N",) if legacy else ()
    storage = op_tuple(op_text("storage"), op_global(kind), op_text(key), op_text("cpu"), op_int(count), *extra) + b"Q"
    sizes, steps = op_tuple(*map(op_int, shape)), op_tuple(*map(op_int, strides))
    hooks = op_global("collections.OrderedDict") + b")R"
    arguments = op_tuple(storage, op_int(offset), sizes, steps, b"\x89", hooks)
    return op_global("torch._utils._rebuild_tensor_v2") + arguments + b"R"


def pickle_of(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def torch_zip_bytes(
    pickle: bytes, storages: Mapping[str, bytes], extra: Mapping[str, bytes] | None = None, root: str = "archive"
) -> bytes:
    records = {"data.pkl": pickle, "byteorder": b"little"}
    records |= {f"data/{key}": raw for key, raw in storages.items()}
    records |= {"version": b"3\n", **(extra or {})}
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, raw in records.items():
            archive.writestr(zipfile.ZipInfo(f"{root}/{name}"), raw)
    return stream.getvalue()


def good_torch_zip() -> bytes:
    tensors = {"a.lora_down.weight": op_tensor("0", 8, (2, 4)), "a.lora_up.weight": op_tensor("1", 8, (4, 2), (1, 4))}
    return torch_zip_bytes(pickle_of(op_dict(tensors)), {"0": floats(8), "1": floats(8)})


def legacy_bytes(value: bytes, storages: Mapping[str, tuple[int, bytes]]) -> bytes:
    """The layout before torch 1.6; storages are element counts and bytes."""
    magic = b"\x80\x02\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
    system = pickle_of(op_dict({"protocol_version": op_int(1001), "little_endian": b"\x88"}))
    keys = pickle_of(b"](" + b"".join(map(op_text, storages)) + b"e")
    data = b"".join(struct.pack("<q", count) + raw for count, raw in storages.values())
    return magic + pickle_of(op_int(1001)) + system + pickle_of(value) + keys + data


def good_legacy() -> bytes:
    return legacy_bytes(op_dict({"a.lora_down.weight": op_tensor("7", 8, (2, 4), legacy=True)}), {"7": (8, floats(8))})


def gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_bytes(
    pairs: Sequence[tuple[str, int, bytes]],
    tensors: Sequence[tuple[str, Sequence[int], int, bytes]],
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """``pairs``: key, type, encoded value. ``tensors``: name, array shape, type, stored bytes."""
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    header += b"".join(gguf_text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    data = b""
    for name, shape, kind, raw in tensors:
        data += b"\0" * (-len(data) % alignment)
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        header += gguf_text(name) + sizes + struct.pack("<IQ", kind, len(data))
        data += raw
    return header + b"\0" * (-len(header) % alignment) + data


def good_gguf() -> bytes:
    pairs = [
        ("general.type", 8, gguf_text("adapter")),
        ("adapter.type", 8, gguf_text("lora")),
        ("adapter.lora.alpha", 6, struct.pack("<f", 16.0)),
        ("adapter.alora.invocation_tokens", 9, struct.pack("<IQ3I", 4, 3, 1, 2, 3)),
        ("general.tags", 9, struct.pack("<IQ", 8, 2) + gguf_text("one") + gguf_text("two")),
    ]
    blocks = b"".join(struct.pack("<e32b", 0.5 * (row + 1), *range(-16, 16)) for row in range(2))
    tensors = [
        ("blk.0.attn_q.weight.lora_a", (2, 4), 0, floats(8)),
        ("blk.0.attn_q.weight.lora_b", (4, 2), 1, struct.pack("<8e", *range(8))),
        ("blk.0.attn_k.weight.lora_a", (2, 32), 8, blocks),
    ]
    return gguf_bytes(pairs, tensors)


# -- the reference corpus ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """One file or folder of the corpus, and what may come of it."""

    path: Path
    kind: str
    why: str
    expect: str  # "error", "warning" or "ok"
    also_ok: tuple[str, ...]
    must: tuple[str, ...]

    @property
    def allowed(self) -> frozenset[str]:
        return frozenset((self.expect, *self.also_ok))


def corpus(folder: Path) -> list[Case]:
    """Write the reference corpus into the empty ``folder``. Skips the test where its generator is absent."""
    generator = SHARED / "make_hostile.py"
    if not generator.exists():
        import pytest

        pytest.skip(REASON)
    subprocess.run([sys.executable, os.fspath(generator), os.fspath(folder)], check=True, capture_output=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    return [
        Case(
            folder / entry["file"],
            entry["class"],
            entry["why"],
            entry["expect"],
            tuple(entry["also_ok"]),
            tuple(entry["must"]),
        )
        for entry in manifest
    ]


def markers(folder: Path) -> list[Path]:
    """Files that exist only where a payload of the corpus was run."""
    return [*folder.rglob("PWNED*"), *Path.cwd().glob("PWNED*")]


# -- the runner --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file. ``status``: ok, warning, error; or crash, hang, signal, each a defect."""

    path: str
    status: str
    error: str = ""  # the type's name
    message: str = ""
    events: tuple[str, ...] = ()  # sockets, foreign imports, programs, files opened for writing
    seconds: float = 0.0
    megabytes: float = 0.0  # above an idle start


def outcomes(paths: Iterable[Path], target: str = "hostile:open_container") -> list[Outcome]:
    """Call ``target`` (``module:function``, taking a path, returning findings) for each path, under limits."""
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, target],
        input="\n".join(map(os.fspath, paths)),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path[1:]])},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [Outcome(**{**entry, "events": tuple(entry["events"])}) for entry in found]


def open_container(path: str) -> Sequence[Any]:
    """What a reader does with a file: open it, and read every tensor in each way there is."""
    from lora_analysis.errors import FormatError
    from lora_analysis.formats.container import open_source

    with open_source(path) as source:
        for name, info in source.tensors.items():
            assert len(source.raw(name)) == info.nbytes
            if info.shape == ():
                try:
                    source.scalar(name)
                except FormatError:
                    assert info.dtype == "C64"
        return source.findings


def _run(call: Callable[[str], Sequence[Any]], path: str) -> dict[str, Any]:
    """In the child: the outcome, except for what only the parent can see."""
    from lora_analysis.errors import LoraAnalysisError

    events: list[str] = []
    sys.addaudithook(lambda event, arguments: _note(events, event, arguments))
    try:
        findings = call(path)
    except LoraAnalysisError as error:
        return {"status": "error", "error": type(error).__name__, "message": str(error), "events": events}
    except BaseException as error:  # the point of the exercise: anything else is a defect
        return {"status": "crash", "error": type(error).__name__, "message": str(error)[:500], "events": events}
    serious = [finding for finding in findings if finding.severity != "info"]
    message = "; ".join(finding.message for finding in serious)
    return {"status": "warning" if serious else "ok", "message": message, "events": events}


def _note(events: list[str], event: str, arguments: tuple[Any, ...]) -> None:
    if event == "import":
        top = str(arguments[0]).partition(".")[0]
        if top not in (*sys.stdlib_module_names, "lora_analysis"):
            events.append(f"import {arguments[0]}")
    elif event == "open":
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            events.append(f"write {arguments[0]}")
    elif event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "ctypes.")):
        events.append(event)


def _in_child(call: Callable[[str], Sequence[Any]], path: str) -> dict[str, Any]:
    """Fork, so that a crash, a hang or a memory bomb ends the child alone."""
    reader, writer = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(2 * SECONDS)  # whatever hangs in Python or in C: the signal's default is death
        idle = _peak_kilobytes()
        result = _run(call, path)
        megabytes = (_peak_kilobytes() - idle) / 1024
        os.write(writer, json.dumps({**result, "megabytes": megabytes}).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        result: dict[str, Any] = {"status": "hang" if number == signal.SIGALRM else "signal", "events": []}
        result["message"] = f"signal {number}"
    else:
        result = json.loads(answer)
    return {**result, "path": path, "seconds": time.monotonic() - started}


def _peak_kilobytes() -> int:
    """Largest resident size so far. ``getrusage`` is no help on Linux: its maximum survives exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(status.read_text().partition("VmHWM:")[2].split()[0])


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    call = getattr(importlib.import_module(module), name)
    for needed in ("lora_analysis.formats.container", "numpy", "ml_dtypes"):  # an idle start has them loaded
        importlib.import_module(needed)
    for path in sys.stdin.read().splitlines():
        print(json.dumps(_in_child(call, path)), flush=True)


if __name__ == "__main__":
    main()
