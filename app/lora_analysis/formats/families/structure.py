"""What the names and shapes of a file say, gathered in one pass, for the rules to ask about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .names import Tower, outline

# Square projections of a block that attends to image and text together, as diffusers splits them.
JOINT_ATTENTION = (
    "attn_to_q",
    "attn_to_k",
    "attn_to_v",
    "attn_add_q_proj",
    "attn_add_k_proj",
    "attn_add_v_proj",
)


class ModuleShape(NamedTuple):
    """The shape of a module's delta, as far as the file tells."""

    out: int | None
    inp: int | None
    kernel: tuple[int, ...]


@dataclass(slots=True)
class Group:
    """All modules whose names differ only in their indices."""

    pattern: str
    outs: set[int | None] = field(default_factory=set)
    inps: set[int | None] = field(default_factory=set)
    kernels: set[tuple[int, ...]] = field(default_factory=set)
    depth: int = 0  # highest block index + 1


class Part:
    """The modules of one part of a pipeline, by canonical name.

    Names are searched as text: one line per distinct canonical name, so ``"\\nlayers_N_"`` asks for names that
    start so, ``"_qkv\\n"`` for names that end so.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        self.groups = tuple(groups)
        self.text = "\n".join(["", *(group.pattern for group in self.groups), ""])

    def __bool__(self) -> bool:
        """Whether there is any module: names of other tensors alone do not count."""
        return any(group.outs for group in self.groups)

    def has(self, *fragments: str) -> bool:
        """Any of the fragments occurs in a name."""
        return any(fragment in self.text for fragment in fragments)

    def has_all(self, *fragments: str) -> bool:
        """Each of the fragments occurs in a name."""
        return all(fragment in self.text for fragment in fragments)

    def inps(self, *endings: str) -> set[int]:
        """Known input widths of the modules whose names end so."""
        return {n for group in self.groups if group.pattern.endswith(endings) for n in group.inps if n is not None}

    def outs(self, *endings: str) -> set[int]:
        """Known output widths of the modules whose names end so."""
        return {n for group in self.groups if group.pattern.endswith(endings) for n in group.outs if n is not None}

    def kernels(self, *endings: str) -> set[tuple[int, ...]]:
        """Kernels of the modules whose names end so; ``()`` where the file states none."""
        return {kernel for group in self.groups if group.pattern.endswith(endings) for kernel in group.kernels}

    def width(self, *endings: str, square: tuple[str, ...] = ()) -> int | None:
        """The input width the first of the endings agrees on, or the output width of a square module.

        Endings are tried in order, because one inconsistent module (a broken LoKr pair) must not hide a good one.
        """
        for ending in endings:
            widths = self.inps(ending)
            if len(widths) == 1:
                return widths.pop()
        for ending in square:
            widths = self.outs(ending)
            if len(widths) == 1:
                return widths.pop()
        return None

    def depth(self, fragment: str) -> int:
        """Highest block index + 1 among the names that contain the fragment; 0 where there is none."""
        return max((group.depth for group in self.groups if fragment in group.pattern), default=0)


class Structure(Part):
    """A whole file: the denoiser or language model itself, and the text encoders beside it."""

    def __init__(self, modules: Mapping[str, ModuleShape], keys: Iterable[str] = ()) -> None:
        found: dict[tuple[Tower, str], Group] = {}
        for name, shape in modules.items():
            tower, pattern, block = outline(name)
            group = found.get((tower, pattern))
            if group is None:
                group = found[tower, pattern] = Group(pattern)
            group.outs.add(shape.out)
            group.inps.add(shape.inp)
            group.kernels.add(shape.kernel)
            if block >= group.depth:
                group.depth = block + 1
        # Tensors that are no update (a saved norm, an embedding) still tell by their names.
        for key in keys:
            tower, pattern, block = outline(key)
            group = found.setdefault((tower, pattern), Group(pattern))
            group.depth = max(group.depth, block + 1)
        super().__init__(group for (tower, _), group in found.items() if not tower.startswith("te"))
        self.towers = frozenset(tower for tower, _ in found)
        self.encoders = Part(group for (tower, _), group in found.items() if tower.startswith("te"))


def hidden_size(width: int | None) -> str:
    """The words for a width in a sentence of evidence."""
    return "hidden size unknown" if width is None else f"hidden size {width}"
