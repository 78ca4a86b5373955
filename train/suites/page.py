"""Pages of headings, text, tables and pictures, as Markdown and as one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
table { border-collapse: collapse; margin: .8rem 0; display: block; overflow-x: auto; }
td { font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: right; vertical-align: top; }
td:not(.left) { white-space: nowrap; }
th { border-bottom: 2px solid #bbb; font-weight: 600; vertical-align: bottom; }
.left { text-align: left; }
code { background: #f3f3f3; padding: .05rem .25rem; border-radius: 3px; font-size: .88em; }
img { max-width: 100%; height: auto; }
@media (max-width: 40rem) { table { font-size: .84rem; } th, td { padding: .25rem .45rem; } }
"""


@dataclass(frozen=True)
class Heading:
    """A heading.

    Attributes:
        level: from 1.
        text: without marks.
    """

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `…` marks code, *…* emphasis."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        headings: of the columns.
        rows: of texts, marked as in `Text`.
        left: indices of the columns that are aligned to the left.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        file: the name of its file, beside the page's.
        text: what it shows.
        png: the file's content.
    """

    file: str
    text: str
    png: bytes


Block = Heading | Text | Table | Picture


def markdown_of(blocks: Sequence[Block]) -> str:
    """Returns the page as Markdown, which refers to the pictures beside it."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def html_of(blocks: Sequence[Block]) -> str:
    """Returns the page as HTML, which contains its pictures."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Picture):
        return f"![{block.text}]({block.file})"
    rules = ["---" if column in block.left else "---:" for column in range(len(block.headings))]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in block.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (block.headings, rules, *rows))


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        return f"<p>{_marked(block.text)}</p>"
    if isinstance(block, Picture):
        content = base64.b64encode(block.png).decode()
        return f'<p><img alt="{html.escape(block.text)}" src="data:image/png;base64,{content}"></p>'
    head = "".join(_cell("th", text, column in block.left) for column, text in enumerate(block.headings))
    rows = ["".join(_cell("td", text, column in block.left) for column, text in enumerate(row)) for row in block.rows]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _cell(tag: str, text: str, left: bool) -> str:
    side = ' class="left"' if left else ""
    return f"<{tag}{side}>{_marked(text)}</{tag}>"


def _marked(text: str) -> str:
    """Returns text with its marks as HTML; inside code nothing else is a mark."""
    parts = re.split(r"`([^`]*)`", text)
    plain = [re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html.escape(part)) for part in parts]
    plain[1::2] = [f"<code>{html.escape(part)}</code>" for part in parts[1::2]]
    return "".join(plain)
