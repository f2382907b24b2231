"""``LoraVisualizer``: figures of adapters for applications."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from .background import in_thread
from .failures import caught
from .figures import FigureRequest, write

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # layers done, layers in all; called from a thread


class LoraVisualizer:
    """Figures as files: coroutines that return whether the file was written, and do not raise for bad input.

    The suffix of ``output_path`` chooses PNG, SVG or PDF. A file is written whole or not at all; an older figure of
    that name is replaced unless ``overwrite=False``, an adapter never. Where a method returns False, ``last_error``
    says why: ``{"type", "code", "message"}``, and ``install`` where an optional part is missing; it is logged too.
    """

    def __init__(self) -> None:
        self.last_error: dict[str, Any] | None = None

    async def generate_weight_heatmap(
        self, path: PathLike, output_path: PathLike, *, layer: str | None = None, **options: Any
    ) -> bool:
        """The norm of every layer's delta, blocks by modules; or, with ``layer``, the delta of that one layer."""
        return await self._write("heatmap", [path], output_path, layer=layer, **options)

    async def generate_weight_distribution_plot(self, path: PathLike, output_path: PathLike, **options: Any) -> bool:
        """How large the entries of the deltas are, block by block. Entries are sampled at even distances."""
        return await self._write("distribution", [path], output_path, **options)

    async def generate_rank_analysis_plot(self, path: PathLike, output_path: PathLike, **options: Any) -> bool:
        """Singular values, energy kept by rank, and the effective rank of every layer."""
        return await self._write("ranks", [path], output_path, **options)

    async def generate_layer_map(self, path: PathLike, output_path: PathLike, **options: Any) -> bool:
        """Every singular value of every layer; ``absolute=True`` for weight units."""
        return await self._write("layers", [path], output_path, **options)

    async def generate_comparison_plot(self, paths: Sequence[PathLike], output_path: PathLike, **options: Any) -> bool:
        """Two to eight adapters of one base: cosines, shared directions of the first two, norms by block."""
        return await self._write("comparison", paths, output_path, **options)

    async def generate_similarity_plot(self, paths: Sequence[PathLike], output_path: PathLike, **options: Any) -> bool:
        """The first two of several adapters: the cosine in every layer beside chance, and the directions they share."""
        return await self._write("similarity", paths, output_path, **options)

    async def _write(
        self,
        kind: str,
        paths: Sequence[PathLike],
        target: PathLike,
        *,
        overwrite: bool = True,
        layer: str | None = None,
        absolute: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> bool:
        def work(cancel: Callable[[], bool]) -> None:
            request = FigureRequest(layer, absolute, workers, progress, cancel)
            write(
                kind,
                [paths] if isinstance(paths, str | os.PathLike) else list(paths),
                target,
                request,
                overwrite=overwrite,
            )

        self.last_error = await in_thread(
            lambda cancel: caught(lambda: work(cancel), doing="drawing", path=target, logger=logger)
        )
        return self.last_error is None
