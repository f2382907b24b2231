"""Carry out a bake: every shard streamed tensor by tensor into a new file, changed weights calculated on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..adapter import TensorSource
from ..errors import OptionError
from ..formats.adapter_output import new_folder
from ..formats.checkpoint import NORMS_SUFFIX
from ..formats.digests import request_hashes
from ..formats.encoding import buffer_of
from ..formats.layout import TensorPlan
from ..formats.strict_json import dumps
from ..formats.target import check_target
from ..formats.writer import write_safetensors
from ..linalg.streams import map_layers
from ..resizing.provenance import HISTORY_KEY, data_sha256
from .arithmetic import Baked, bake
from .plan import BakePlan

if TYPE_CHECKING:
    from typing_extensions import Buffer

Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]
_COPIED_LIMIT = 50_000_000  # bytes; a tokenizer fits, another checkpoint does not


@dataclass(frozen=True, slots=True, eq=False)
class BakeReport:
    """What a bake did. ``rounding`` is the norm of what rounding to the base's types cost, relative to the change."""

    plan: BakePlan
    path: str
    size: int
    change: float  # Frobenius norm of everything that was added
    rounding: float
    copied: tuple[str, ...] = ()  # other files of the folder

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.plan.to_dict(),
            "change": self.change,
            "rounding": self.rounding,
            "output": {"path": self.path, "size": self.size, "copied": list(self.copied)},
        }


def check_bake_output(plan: BakePlan, target: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse a target that cannot or must not be written. Raises: OptionError, OutputError."""
    sharded = plan.checkpoint.index is not None
    inputs: list[str | os.PathLike[str]] = [*plan.checkpoint.files, *(item.adapter.path for item in plan.inputs)]
    if sharded and os.path.lexists(target):
        raise OptionError(f"{target}: a checkpoint in several files needs a folder that does not exist yet")
    check_target(
        os.path.normpath(target), inputs, overwrite=overwrite, suffixes=() if sharded else (".safetensors",)
    )  # fmt: skip


def write_bake(
    plan: BakePlan,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> BakeReport:
    """Write the changed checkpoint, whole or not at all. One tensor per worker is in memory.

    Raises: OptionError, OutputError, NonFiniteError naming the tensor, CancelledError.
    """
    check_bake_output(plan, target, overwrite=overwrite)
    checkpoint, path = plan.checkpoint, Path(os.path.normpath(target))
    history = _history(plan, cancel)
    sums = _Sums()
    copied: tuple[str, ...] = ()
    is_folder = checkpoint.index is not None
    done = 0
    with new_folder(path) if is_folder else nullcontext(path) as place:
        for name, source in checkpoint.shards.items():
            file = place / name if is_folder else place
            report = _shifted(progress, done, checkpoint.size)
            tensors = [
                TensorPlan(key, info.dtype, _shape(plan, key, info.shape)) for key, info in source.tensors.items()
            ]
            metadata = request_hashes({key: str(value) for key, value in source.metadata.items()} | history)
            write_safetensors(
                file, tensors, _chunks(plan, source, sums, workers, cancel), metadata,
                overwrite=overwrite, with_hashes=False, progress=report, cancel=cancel,
            )  # fmt: skip
            done += source.size
        if is_folder:
            copied = _copy_others(plan, place)
        size = sum(file.stat().st_size for file in ([place / n for n in checkpoint.shards] if is_folder else [place]))
    rounding = sqrt(sums.rounding) / sqrt(sums.change) if sums.change else 0.0
    return BakeReport(plan, os.fspath(path), size, sqrt(sums.change), rounding, copied)


class _Sums:
    """Squares of norms over all tensors."""

    change = 0.0
    rounding = 0.0


def _shape(plan: BakePlan, key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of the output: a control adapter pads the weight first."""
    additions = plan.additions.get(key, ())
    return next((one.layer.reshape for one in additions if one.layer.reshape and not one.is_bias), None) or shape


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)


def _history(plan: BakePlan, cancel: Cancel | None) -> dict[str, str]:
    record = {
        "operation": "bake",
        "version": __version__,
        "inputs": [
            {
                "name": os.path.basename(item.adapter.path),
                "weight": item.weight,
                "sha256": data_sha256(item.adapter.source, cancel or (lambda: False)),
            }
            for item in plan.inputs
        ],
    }
    return {HISTORY_KEY: dumps([record])}


def _chunks(
    plan: BakePlan, source: TensorSource, sums: _Sums, workers: int | None, cancel: Cancel | None
) -> Iterator[Buffer]:
    """Every tensor's bytes in the file's order; changed ones are calculated ahead."""
    changed = [key for key in source.tensors if key in plan.additions]
    results = map_layers(partial(_bake, plan, source), changed, workers=workers, cancel=cancel)
    with closing(results):
        for key in source.tensors:
            if key not in plan.additions:
                yield source.raw(key)
                continue
            made = next(results)
            sums.change += made.change**2
            sums.rounding += made.rounding**2
            yield buffer_of(made.array)


def _bake(plan: BakePlan, source: TensorSource, key: str) -> Baked:
    return bake(source.array(key), plan.additions[key], source.tensors[key].dtype, key)


def _copy_others(plan: BakePlan, folder: Path) -> tuple[str, ...]:
    """The index, and what loaders need beside it: configurations, tokenizers; not the norms of the old weights."""
    index = plan.checkpoint.index
    assert index is not None  # the caller has a folder
    copied = []
    for file in sorted(index.parent.iterdir()):
        if (
            file.is_file()
            and file.suffix in (".json", ".txt", ".model", ".jinja")
            and not file.name.endswith(NORMS_SUFFIX)
            and file.stat().st_size < _COPIED_LIMIT
        ):
            shutil.copyfile(file, folder / file.name)
            copied.append(file.name)
    return tuple(copied)
