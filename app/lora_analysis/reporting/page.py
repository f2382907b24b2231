"""The page itself: HTML without a script, a link to elsewhere, or an unescaped letter from the file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from ..plots.saving import DPI
from ..text import printable

_CELL_LIMIT = 400
# Nothing is loaded from anywhere: images are inside, and no script may run, whoever wrote it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2329; --muted: #5f6672; --ground: #fff; --line: #dfe2e7; --panel: #f6f7f9;
  --accent: #0072b2; --bad: #b3261e; --warn: #8a5300; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --muted: #a4abb6; --ground: #15181d; --line: #333a44;
  --panel: #1d2229; --accent: #6fb7e6; --bad: #ff9d94; --warn: #f0b868; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; margin: 0 0 .4rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
.badges { display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; margin: 0 0 1.2rem; list-style: none; }
.badges li { border: 1px solid var(--line); background: var(--panel); border-radius: 1rem; padding: .1rem .7rem; }
.advice { border-left: 4px solid var(--accent); background: var(--panel); padding: .8rem 1rem; margin: 1rem 0; }
.advice p { margin: 0 0 .3rem; font-weight: 600; } .advice ul { margin: 0; padding-left: 1.1rem; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; } caption { text-align: left; color: var(--muted); }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--muted); font-weight: 600; } td.number, th.number { text-align: right;
  font-variant-numeric: tabular-nums; } .scroll { overflow-x: auto; }
.facts th { width: 14rem; font-weight: 600; } figure { margin: 1rem 0 2rem; }
.frame { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; background: #fff;
  max-width: max-content; }
figure img { display: block; max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { .frame { filter: brightness(.9); } }
@media (max-width: 48rem) { figure img { max-width: none; } body { padding: 1.25rem .9rem 3rem; } }
figcaption { margin-top: .4rem; }
@media print { figure img { max-width: 100%; } section { break-inside: avoid; } }
figcaption, footer, .note { color: var(--muted); font-size: .87rem; } .error { color: var(--bad); }
.warning { color: var(--warn); } details summary { cursor: pointer; }
"""


class Picture(NamedTuple):
    """A figure with the words that stand for it where it cannot be seen."""

    title: str
    png: bytes
    description: str

    @property
    def width(self) -> int:
        """In the page's pixels, 96 to the inch: letters then have one size in all figures, whatever is drawn."""
        pixels = int.from_bytes(self.png[16:20], "big")  # the first chunk of every PNG begins with it
        return round(pixels * 96 / DPI)


def document(title: str, body: Iterable[str]) -> str:
    """A complete page."""
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
    )
    return head + "<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"


def text(value: object, limit: int = _CELL_LIMIT) -> str:
    """Anything as text of the page: escaped, without control characters."""
    return escape(printable(value, limit=limit))


def section(title: str, *content: str) -> str:
    return f"<section>\n<h2>{text(title)}</h2>\n" + "\n".join(content) + "\n</section>"


def badges(items: Iterable[str]) -> str:
    return '<ul class="badges">' + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of labels and values."""
    lines = "".join(f'<tr><th scope="row">{text(label)}</th><td>{text(value)}</td></tr>' for label, value in rows)
    return f'<table class="facts"><tbody>{lines}</tbody></table>'


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table; numbers stand at the right."""
    listed = [list(row) for row in rows]
    numeric = [all(isinstance(row[n], int | float) or row[n] is None for row in listed) for n in range(len(headings))]
    classes = [' class="number"' if right else "" for right in numeric]
    head = "".join(f'<th scope="col"{c}>{text(h)}</th>' for h, c in zip(headings, classes, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{c}>{text(_number(v))}</td>" for v, c in zip(row, classes, strict=True)) + "</tr>"
        for row in listed
    )
    above = f"<caption>{text(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(value: object) -> object:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else value


def picture(figure: Picture) -> str:
    data = b64encode(figure.png).decode("ascii")
    return (
        f'<figure><div class="frame" tabindex="0" role="group" aria-label="{text(figure.title)}">'
        f'<img src="data:image/png;base64,{data}" width="{figure.width}" alt="{text(figure.description, 1000)}"></div>'
        f"<figcaption>{text(figure.description, 1000)}</figcaption></figure>"
    )


def advice(statement: str, reasons: Iterable[str]) -> str:
    lines = "".join(f"<li>{text(reason)}</li>" for reason in reasons)
    return f'<div class="advice"><p>{text(statement)}</p><ul>{lines}</ul></div>'


def findings(rows: Iterable[tuple[str, str]]) -> str:
    """Severity and message, in words and in colour."""
    lines = "".join(f'<li><strong class="{kind}">{kind}</strong> {text(message)}</li>' for kind, message in rows)
    return f"<ul>{lines}</ul>"


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{text(summary)}</summary>{content}</details>"
