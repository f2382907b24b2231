"""Iso-CTS on the span of the adapters: see ``linalg.polar.iso_cts``."""

from __future__ import annotations

from ...errors import OptionError
from .method import Merged, Method, Request, Settings
from .scaling import at_scale


def _merge(request: Request) -> Merged:
    from ...linalg.polar import iso_cts
    from ...linalg.tasks import core_of, is_nothing, zero

    parts = request.layer.canonical()
    if is_nothing(parts):
        return Merged(zero(request.layer))
    return Merged(at_scale(request, iso_cts(core_of(parts), request.settings["common"]), parts))


def _check(settings: Settings) -> None:
    if settings["svc"]:
        raise OptionError("iso_cts makes all singular values equal, which leaves svc no directions to calibrate")


METHOD = Method(
    "iso_cts",
    "equal singular values, with directions kept for each adapter alone (Iso-CTS)",
    _merge,
    parameters={"alpha": None, "common": 0.8},
    check=_check,
)
