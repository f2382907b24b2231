"""The figure of a principal component analysis, from the dict of ``LoraPcaAnalyzer``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .pages import heading_of, pca_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pca_figure(result: Mapping[str, Any]) -> Figure:
    """Explained and cumulative variance, singular values and components of ``result["pca_results"]``.

    Raises: OptionError where the result holds no analysis; MissingExtraError without matplotlib.
    """
    found = result.get("pca_results")
    if not isinstance(found, Mapping) or not found:
        raise OptionError("the result holds no principal components; nothing can be drawn")
    name = os.path.basename(os.path.normpath(str(result.get("path") or "adapter")))
    what = "singular directions of ΔW" if result.get("target") == "delta" else "principal components of the factors"
    return pca_page(found, heading_of([name], [what, f"{len(found)} matrices"]))


def draw_pca(result: Mapping[str, Any], target: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """Write the figure of a result; the suffix says whether PNG, SVG or PDF. Raises: as ``pca_figure``; OutputError."""
    from .saving import format_of, save

    format_of(target)
    save(pca_figure(result), target, overwrite=overwrite)
