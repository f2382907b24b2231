"""DoRA's magnitude: which tensor holds it, and whose norms it trains.

``.dora_scale`` is ``(out, 1, ...)`` for row norms (LyCORIS since 3.2, ``wd_on_output``) or ``(1, in, ...)`` for
column norms (LyCORIS before, OneTrainer's default); on a square layer only the position tells. PEFT's
``.lora_magnitude_vector``, ai-toolkit's ``.magnitude`` and MLX' ``.m`` are always row norms.
"""

from __future__ import annotations

from functools import partial
from math import prod

from ..adapter import Axis, Magnitude
from ..errors import ShapeError
from .kinds import Group


def magnitude_axis(group: Group, shape: tuple[int, ...] | None) -> Axis | None:
    """Whose norms the module's magnitude holds; None where it has none.

    Raises: ShapeError where the magnitude fits neither side of the delta.
    """
    role = "dora" if group.has("dora") else "magnitude"
    if not group.has(role):
        return None
    stored = group.shape(role)
    axis: Axis = "in" if role == "dora" and len(stored) > 1 and stored[0] == 1 and prod(stored) > 1 else "out"
    if shape is not None and len(shape) >= 2:
        expected = shape[0] if axis == "out" else shape[1]
        # LoHa and LoKr store a convolution's (in * k) columns flattened: "in" then divides what is there.
        flattened = axis == "in" and len(shape) == 2 and expected % max(prod(stored), 1) == 0
        if prod(stored) != expected and not flattened:
            raise ShapeError(
                f"{group.name}: {group.keys[role]} has {prod(stored)} values, the delta {list(shape)} needs "
                f"{expected} on its {axis} axis"
            )
    return axis


def load_magnitude(group: Group, axis: Axis) -> partial[Magnitude]:
    """A reader of the magnitude, flattened to ``(out,)`` or ``(in,)``."""
    return partial(_load, group, axis)


def _load(group: Group, axis: Axis) -> Magnitude:
    role = "dora" if group.has("dora") else "magnitude"
    return Magnitude(group.array(role).reshape(-1), axis)
