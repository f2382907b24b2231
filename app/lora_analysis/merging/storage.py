"""How a layer of the sum is stored: its type, and the error that names it where that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import LoraAnalysisError
from ..resizing.options import OUTPUT_DTYPES, OutputDtype
from .inputs import Share

if TYPE_CHECKING:
    from ..adapter import FloatArray

# Most precise first. fp16 stands before bf16: for trained factors its range suffices, and it holds three more bits.
_PRECISION = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def stored_dtype(shares: Sequence[Share], asked: OutputDtype) -> str:
    """The type asked for, or the most precise of the holders' floats; F32 where they have none."""
    if asked != "keep":
        return OUTPUT_DTYPES[asked]
    found = {info.dtype for share in shares for role, info in share.infos().items() if role != "alpha"}
    return next((dtype for dtype in _PRECISION if dtype in found), "F32")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """What is raised inside says first which layer it is about."""
    try:
        yield
    except LoraAnalysisError as error:
        if name in error.message:
            raise
        raise type(error)(f"{name}: {error.message}") from error


def with_name(name: str, calculate: Callable[[], FloatArray]) -> FloatArray:
    """What ``calculate`` returns. What it raises says first which layer it is about."""
    with naming(name):
        return calculate()
