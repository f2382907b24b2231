"""Tensor data on its way into a file: one buffer per tensor, in the order of the plan."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from ..errors import CancelledError, ShapeError
from .layout import TensorPlan, data_size

if TYPE_CHECKING:
    from typing_extensions import Buffer

Progress: TypeAlias = Callable[[int, int], None]  # (bytes of data done, bytes of data in all)
Cancel: TypeAlias = Callable[[], bool]  # true: stop


@contextmanager
def closing_chunks(chunks: Iterable[Buffer]) -> Iterator[None]:
    """Whatever calculates the chunks has ended when the block has, however that ends.

    After an error the exception's traceback keeps a generator alive, until the garbage collector closes it: at any
    moment, in any thread. One that has threads then waits for these, which for a thread that is just being started
    or ended, and holds the lock of all threads, is for ever.
    """
    try:
        yield
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


def checked_chunks(
    tensors: Sequence[TensorPlan], chunks: Iterable[Buffer], progress: Progress | None, cancel: Cancel | None
) -> Iterator[memoryview]:
    """The bytes of each tensor, flat. A view is valid until the next one is asked for.

    Raises: ShapeError where a buffer has not the planned size, is not contiguous, or their number is
    not that of the plan; CancelledError as soon as ``cancel()`` is true between two tensors.
    """
    source = iter(chunks)
    done, total = 0, data_size(tensors)
    for plan in tensors:
        if cancel is not None and cancel():
            raise CancelledError(f"stopped as asked, after {done:,} of {total:,} bytes; nothing was written")
        chunk = next(source, None)
        if chunk is None:
            raise ShapeError(f"{plan.name}: planned, but no bytes came for it")
        with _flat(plan, chunk) as view:  # released after use: one tensor in memory while the next is made
            del chunk
            yield view
        done += plan.nbytes
        if progress is not None:
            progress(done, total)
    if next(source, None) is not None:
        raise ShapeError(f"more buffers came than the {len(tensors)} planned tensors")


def _flat(plan: TensorPlan, chunk: Buffer) -> memoryview:
    with memoryview(chunk) as view:
        if view.nbytes != plan.nbytes:
            raise ShapeError(f"{plan.name}: {plan.nbytes:,} bytes planned for {plan.shape}, {view.nbytes:,} came")
        if not view.c_contiguous:
            raise ShapeError(f"{plan.name}: the buffer is not in C order; make it contiguous first")
        return view.cast("B") if view.nbytes else memoryview(b"")  # a zero in the shape forbids the cast
