"""LyCORIS' own wrapper (SimpleTuner, older ai-toolkit): ``lycoris_`` and dots as underscores."""

from __future__ import annotations

from .view import Dialect

LYCORIS = Dialect("lycoris", "LyCORIS wrapper", lambda view: view.count("lycoris_") > 0)
