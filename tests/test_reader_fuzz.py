"""20,000 damaged files: only errors of this package leave the readers, and nothing is accepted that should not be."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors

from hostile import (
    good_gguf,
    good_legacy,
    good_safetensors,
    good_torch_zip,
    lora_tensors,
    op_dict,
    op_int,
    op_tensor,
    pickle_of,
    torch_zip_bytes,
)
from lora_analysis.errors import MESSAGE_LIMIT, FormatError, LoraAnalysisError, MissingExtraError
from lora_analysis.formats.container import open_source
from lora_analysis.formats.source import FileSource

FILES_PER_KIND = 5_000
INTERESTING = (
    0,
    1,
    2,
    7,
    8,
    31,
    32,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
FRAGMENTS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"9", b"null", b"true", b"NaN", b"1e9", b"\\ud800",
    b'"F16"', b'"F8_E4M3"', b"__metadata__", b"\xff", b"\0", b" ", b"\n", b"PK\x01\x02", b"PK\x03\x04", b"GGUF",
    b"(", b"t", b"R", b"b", b"}", b"u", b"Q", b".", b"q\0", b"h\0", b"\x86", b"cos\nsystem\n", b"ctorch\nSize\n",
)  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    tensors = lora_tensors()
    tensors["half"] = ("F16", [2, 3], bytes(12))
    tensors["empty"] = ("BF16", [0, 3], b"")
    nested = {
        "state_dict": op_dict({"a.w": op_tensor("0", 8, (2, 2), (1, 3), 2), "a.alpha": op_int(4)}),
        "epoch": op_int(1),
    }
    return {
        "safetensors": [good_safetensors(tensors, {"ss_network_dim": "4", "text": 'a "quoted" \\ text é'})],
        "pytorch": [good_torch_zip(), torch_zip_bytes(pickle_of(op_dict(nested)), {"0": bytes(32)})],
        "legacy": [good_legacy()],
        "gguf": [good_gguf()],
    }


# -- mutations: each takes and changes a bytearray ---------------------------------------------------


def flip_bit(random: random.Random, content: bytearray) -> None:
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def set_number(random: random.Random, content: bytearray) -> None:
    code = random.choice("BHIQ")
    size = struct.calcsize(code)
    if len(content) >= size:
        value = random.choice(INTERESTING) % (1 << 8 * size)
        struct.pack_into("<" + code, content, random.randrange(len(content) - size + 1), value)


def cut(random: random.Random, content: bytearray) -> None:
    start = random.randrange(len(content))
    del content[start : start + random.choice((1, 2, 8, len(content)))]


def insert(random: random.Random, content: bytearray) -> None:
    start = random.randrange(len(content) + 1)
    content[start:start] = random.choice(FRAGMENTS)


def replace(random: random.Random, content: bytearray) -> None:
    fragment = random.choice(FRAGMENTS)
    start = random.randrange(len(content))
    content[start : start + len(fragment)] = fragment


def repeat(random: random.Random, content: bytearray) -> None:
    start = random.randrange(len(content))
    end = start + random.choice((1, 4, 16, 80))
    content[end:end] = content[start:end]


def change_digit(random: random.Random, content: bytearray) -> None:
    places = [place for place, byte in enumerate(content) if 48 <= byte < 58]
    if places:
        content[random.choice(places)] = random.choice(b"0123456789-.e")


MUTATIONS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    flip_bit, set_number, cut, insert, replace, repeat, change_digit,
)  # fmt: skip


def mutate(random: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        if changed:
            random.choice(MUTATIONS)(random, changed)
    if random.random() < 0.5 and changed[8:9] == b"{":  # keep the frame right, so that the JSON is reached
        end = changed.rfind(b"}}") + 2
        changed[:8] = struct.pack("<Q", max(end - 8, 0))
    return bytes(changed)


# -- what has to hold --------------------------------------------------------------------------------


def read_everything(source: FileSource) -> None:
    """Every way to read every tensor ends in its declared size, or in an error of ours."""
    for name, info in source.tensors.items():
        name.encode()
        assert len(source.raw(name)) == info.nbytes
        try:
            array = source.array(name)
        except FormatError:
            continue  # values smaller than a byte, or no elements in a shape beyond 64 bits
        assert (array.shape, array.nbytes) == (info.shape, info.nbytes)


def agree_with_the_reference(content: bytes, source: FileSource) -> None:
    """What we accept, the reference library accepts, with the same names, types and shapes.

    The exceptions either way are listed, and tested, in ``test_safetensors_reader``.
    """
    reference = dict(safetensors.deserialize(content))
    assert {name: (info.dtype, list(info.shape)) for name, info in source.tensors.items()} == {
        name: (entry["dtype"], entry["shape"]) for name, entry in reference.items()
    }
    for name, entry in reference.items():
        assert source.raw(name) == bytes(entry["data"])


def check_message(message: str, path: Path) -> None:
    assert path.name in message
    assert len(message) <= MESSAGE_LIMIT
    assert message.isprintable()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", sorted(seeds()))
def test_damaged_files_end_in_our_own_errors_or_in_the_truth(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    path.touch()
    descriptor = os.open(path, os.O_RDWR)
    generator = random.Random(f"lora-analysis {kind}")
    accepted = 0
    try:
        for _ in range(FILES_PER_KIND):
            content = mutate(generator, generator.choice(seeds()[kind]))
            os.pwrite(descriptor, content, 0)
            os.truncate(descriptor, len(content))
            try:
                with open_source(path) as source:
                    read_everything(source)
                    if source.container == "safetensors":
                        agree_with_the_reference(content, source)
                accepted += 1
            except MissingExtraError:
                accepted += 1  # an old PyTorch file that is fine
            except LoraAnalysisError as error:
                check_message(error.message, path)
    finally:
        os.close(descriptor)
    # Both ends matter: a reader that refuses everything passes every other check.
    assert FILES_PER_KIND // 200 < accepted < FILES_PER_KIND // 2
