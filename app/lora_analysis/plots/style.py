"""How every figure looks, in one place: colours, fonts, axes, titles.

Colours are those of M. Okabe and K. Ito ("Color Universal Design", 2008), which people with the common forms of colour
blindness can tell apart; maps are viridis, whose lightness grows with the value, and for signed values a map from
purple to orange. Figures have an opaque white ground, so they read alike in light and dark viewers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from ..text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00", "#000000")
MAGNITUDES = "viridis"
SIGNED = "PuOr_r"
MISSING = "#E9E9EC"  # where there is no value: none of the maps has this grey
MUTED = "#5F6672"
GRID = "#DFE2E7"
CHANCE = "#7A7F8A"
TITLE_LIMIT = 90  # characters of an untrusted name

_FEW_ROWS = 12
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with Matplotlib, so figures are the same everywhere
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": "#30343B",
    "axes.edgecolor": "#9AA0AA",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # text looks the same where the font is missing
    "svg.hashsalt": "lora-analysis",  # identifiers, and with them files, are the same every time
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names come from files: "$" in them is a dollar sign
    "path.simplify": True,
}


def require_matplotlib() -> None:
    """Raises: MissingExtraError with the line that installs it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        message = "figures need matplotlib, which is not installed: pip install 'lora-analysis[plot]'"
        raise MissingExtraError(message, extra="plot") from error


@contextmanager
def styled() -> Iterator[None]:
    """The style for what is made inside, and only there."""
    require_matplotlib()
    from matplotlib import rc_context

    with rc_context(_STYLE):  # type: ignore[arg-type]  # its keys are a closed list to the checker
        yield


def axes_or_new(ax: Axes | None, width: float = 6.4, height: float = 4.0) -> Axes:
    """``ax``, or the axes of a new figure of that size in inches. Call inside :func:`styled`."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def colour(number: int) -> str:
    """The colour of the n-th series, from 0; repeats after eight."""
    return PALETTE[number % len(PALETTE)]


def label(text: object, limit: int = TITLE_LIMIT) -> str:
    """A string from a file as one line of a figure. Letters the font lacks stay out, so drawing never warns."""
    return "".join(letter if _drawable(ord(letter)) else "�" for letter in printable(text, limit=limit))


def _drawable(code: int) -> bool:
    """Whether DejaVu Sans holds a letter: Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic, symbols; no ideographs."""
    return code < 0x0700 or 0x1E00 <= code < 0x2C00 or 0xFB00 <= code < 0xFE00 or code == 0xFFFD


def decades(axis: Axis, linear: float = 0.0) -> None:
    """Powers of ten as plain text, ``10⁻³``: mathematical markup is off, because names come from files.

    ``linear``: ticks nearer to zero than this are left out, where an axis is logarithmic on both sides of it.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    def text(value: float, _: int) -> str:
        if value == 0:
            return "0"
        exponent = round(log10(abs(value)))
        if abs(value) < linear or not 0.99 < abs(value) / 10.0**exponent < 1.01:
            return ""
        return f"{'−' if value < 0 else ''}10{str(exponent).translate(_SUPERSCRIPTS)}"

    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_formatter(NullFormatter() if linear else FuncFormatter(lambda value, _: _between(value, axis)))


def _between(value: float, axis: Axis) -> str:
    """Two and five, where the view holds less than two powers of ten: one alone is no scale."""
    low, high = sorted(axis.get_view_interval())
    if low <= 0 or floor(log10(high)) - ceil(log10(low)) >= 1:
        return ""
    leading = round(value / 10.0 ** floor(log10(value)))
    return f"{value:g}" if leading in (2, 5) else ""


def bar_size(rows: int, shrink: float = 0.5) -> dict[str, Any]:
    """How long and slim the scale beside a map is: ``shrink`` of its height, all of it beside a map of few rows."""
    return {"shrink": shrink, "aspect": 30} if rows > _FEW_ROWS else {"shrink": 1.0, "aspect": 15}


def empty(ax: Axes, message: str) -> Axes:
    """Axes that say why there is nothing to see."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, transform=ax.transAxes, wrap=True)
    return ax
