"""The registry of merge methods: one file and one line each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ...errors import OptionError
from . import (
    concat,
    core_dare,
    core_ties,
    ctm,
    dare_linear,
    dare_ties,
    della,
    iso_c,
    iso_cts,
    karcher,
    knots_ties,
    magnitude_prune,
    model_stock,
    peft_linear,
    peft_svd,
    sd_scripts,
    sd_scripts_concat,
    sd_scripts_svd,
    slerp,
    svd,
    ties,
    tsv,
    weighted_sum,
)
from .method import Method

_ALL = (
    weighted_sum.METHOD,
    concat.METHOD,
    svd.METHOD,
    slerp.METHOD,
    karcher.METHOD,
    model_stock.METHOD,
    tsv.METHOD,
    iso_c.METHOD,
    iso_cts.METHOD,
    knots_ties.METHOD,
    core_ties.METHOD,
    core_dare.METHOD,
    ctm.METHOD,
    ties.METHOD,
    dare_linear.METHOD,
    dare_ties.METHOD,
    della.METHOD,
    magnitude_prune.METHOD,
    peft_linear.METHOD,
    peft_svd.METHOD,
    sd_scripts.METHOD,
    sd_scripts_concat.METHOD,
    sd_scripts_svd.METHOD,
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ALL})
DEFAULT = weighted_sum.METHOD.name


def method_named(name: str) -> Method:
    """Raises: OptionError that lists what there is."""
    if name not in METHODS:
        raise OptionError(f"no merge method is named {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]
