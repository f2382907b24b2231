"""Iso-C on the span of the adapters: see ``linalg.polar.iso_c``."""

from __future__ import annotations

from ...errors import OptionError
from .method import Merged, Method, Request, Settings
from .scaling import at_scale


def _merge(request: Request) -> Merged:
    from ...linalg.polar import iso_c
    from ...linalg.tasks import core_of, is_nothing, zero

    parts = request.layer.canonical()
    if is_nothing(parts):
        return Merged(zero(request.layer))
    return Merged(at_scale(request, iso_c(core_of(parts), request.settings["beta"]), parts))


def _check(settings: Settings) -> None:
    if settings["svc"] and settings["beta"] == 1:
        raise OptionError("iso_c makes all singular values equal, which leaves svc no directions to calibrate")


METHOD = Method(
    "iso_c",
    "the sum with all its singular values made equal (Iso-C)",
    _merge,
    parameters={"alpha": None, "beta": 1.0},
    check=_check,
)
