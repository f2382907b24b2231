"""Trimming over all layers of an adapter together: the smallest magnitude that stays, found before any is merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from .options import MergeOptions

if TYPE_CHECKING:
    from ..linalg.floats import Float64Array
    from ..linalg.selection import Selection
    from ..linalg.tasks import LayerTasks

Load = Callable[[], "list[LayerTasks]"]


@dataclass(slots=True)
class Thresholds:
    """The layers that are trimmed, and the thresholds once they are known.

    Counted are all entries of the layers that the method merges; vectors have thresholds of their own.
    """

    options: MergeOptions
    by_input: Mapping[int, float] | None = None  # None: every layer has its own
    _layers: dict[str, Load] = field(default_factory=dict)
    _numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def expect(self, name: str, inputs: Iterable[int], load: Load) -> None:
        """A layer that will be trimmed, and which inputs hold it."""
        self._layers[name] = load
        self._numbers[name] = tuple(inputs)

    @property
    def are_due(self) -> bool:
        """Whether they have to be found before a layer can be merged."""
        settings = self.options.settings
        is_global = settings.get("threshold") == "global" and settings["density"] < 1
        return is_global and bool(self._layers) and self.by_input is None

    def find(self, *, workers: int | None = None, cancel: Callable[[], bool] | None = None) -> None:
        """Go through all layers as often as it takes. Raises: NonFiniteError naming the layer, CancelledError."""
        if not self.are_due:
            return
        from ..linalg.consensus import keep_count
        from ..linalg.selection import Selection
        from ..linalg.streams import map_layers

        density = self.options.settings["density"]
        numbers = {share for shares in self._numbers.values() for share in shares}
        found = {number: Selection(partial(keep_count, density)) for number in sorted(numbers)}
        while not all(selection.is_done for selection in found.values()):
            count = partial(self._count, found)
            for parts in map_layers(count, self._layers.items(), workers=workers, cancel=cancel):
                for number, part in parts.items():
                    found[number].join(part)
            for selection in found.values():
                if not selection.is_done:
                    selection.end_pass()
        self.by_input = {number: selection.threshold or 0.0 for number, selection in found.items()}

    def _count(self, found: Mapping[int, Selection], item: tuple[str, Load]) -> dict[int, Selection]:
        parts = {number: selection.part() for number, selection in found.items() if not selection.is_done}
        for number, values in self._entries(item):
            if number in parts:
                parts[number].add(values)
        return parts

    def _entries(self, item: tuple[str, Load]) -> Iterator[tuple[int, Float64Array]]:
        from .steps import calibrated
        from .storage import naming

        name, load = item
        entries = self.options.how.entries
        assert entries is not None  # only such layers are expected
        with naming(name):
            for layer in load():
                numbers = [task.number for task in layer.tasks]
                for arrays in entries(calibrated(layer, self.options.settings))():
                    yield from zip(numbers, arrays, strict=True)
