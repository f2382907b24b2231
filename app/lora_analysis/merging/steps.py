"""A method with the steps around it: Pico before, SVC after, and a factor on the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .methods.method import Merged, Method, Request, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..adapter import LowRank
    from ..linalg.tasks import Canonical, LayerTasks


def merge_matrix(method: Method, request: Request) -> Merged:
    """The merged delta of one matrix: pico, the method, svc, pico's norm, lambda."""
    settings = request.settings
    wants_pico, wants_svc = bool(settings.get("pico")), bool(settings.get("svc"))
    factor = settings.get("lambda", 1.0)
    if not (wants_pico or wants_svc):
        return _scaled(method.merge(request), factor)
    from ..linalg import polar
    from ..linalg.tasks import is_nothing

    original = request.layer.canonical()
    if is_nothing(original):
        return method.merge(request)
    request = request._replace(layer=calibrated(request.layer, settings))
    made = method.merge(request)
    if wants_svc:
        parts = request.layer.canonical() if wants_pico else original
        made = Merged(polar.svc(made.factors, parts, settings["svc_floor"]), made.missing)
    return _scaled(made, factor * (_to_the_mean_norm(made.factors, original) if wants_pico else 1.0))


def calibrated(layer: LayerTasks, settings: Settings) -> LayerTasks:
    """The tasks that the method gets: the inputs' own, or what Pico makes of them."""
    if not settings.get("pico"):
        return layer
    from ..linalg import polar
    from ..linalg.tasks import is_nothing

    parts = layer.canonical()
    return layer if is_nothing(parts) else polar.as_tasks(layer, polar.pico(layer, parts))


def _to_the_mean_norm(merged: LowRank, parts: Sequence[Canonical]) -> float:
    """``Σ |wₜ| ‖Δₜ‖ / ‖merged‖``: Pico ends with the inputs' mean norm."""
    from ..linalg.tasks import canonical

    norm = canonical(merged).norm
    return sum(part.norm for part in parts) / norm if norm else 1.0


def _scaled(made: Merged, factor: float) -> Merged:
    from ..adapter import LowRank

    if factor == 1:
        return made
    old = made.factors
    return Merged(LowRank(old.up, old.down, old.scale * factor, old.kernel), made.missing * abs(factor))
