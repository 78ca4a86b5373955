"""`sab-agents report FOLDER…`: what suites found, as a report with one HTML file, or as a page of results.

A page of results (`--page FILE.md`) has a question, what was tuned, and what suites found, with intervals of the means.
The part that suites write lies between two marks; what is written by hand outside of them is kept when the page is made
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sab_agents.train.commands.arguments import Parser
from sab_agents.train.errors import UserError
from sab_agents.train.figures.canvas import png_of, svg_of
from sab_agents.train.figures.studies import Styles, curves_figure, scores_figure, styles_of
from sab_agents.train.output import lines, make_folder, write_atomically
from sab_agents.train.suites.page import Block, Heading, Picture, Table, Text, html_of, markdown_of
from sab_agents.train.suites.runs import studies_in
from sab_agents.train.suites.study import Study, blocks_of, results_of

BEGIN = "<!-- written by sab-agents report; edit the text outside of these two marks -->"
END = "<!-- end of what is written by sab-agents report -->"


def command(arguments: Sequence[str]) -> int:
    """Writes report.md, its pictures and report.html; or a page of results and its pictures."""
    parser = Parser("report", "Lay out what suites found on one page.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of a suite, or of a run")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="gets report.md, its pictures and report.html")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="a page of results, FILE.md, and its pictures beside it"
    )
    parser.add_argument("--title", metavar="TEXT", help="of the report, default: Report; the question of a new page")
    parser.add_argument("--tuned", metavar="TEXT", help="of a new page: what was tuned, and for whom")
    parsed = parser.parse(arguments)
    if (parsed.out is None) == (parsed.page is None):
        raise UserError("report: give --out FOLDER for a report or --page FILE.md for a page of results, one of both.")
    studies = studies_in(parsed.folders)
    if parsed.page is not None:
        write_page(studies, parsed.page, parsed.title, parsed.tuned)
        lines().print(str(parsed.page))
        return 0
    if parsed.tuned is not None:
        raise UserError("report: --tuned is of a page of results. Give --page FILE.md, or leave it out.")
    write_report(studies, parsed.out, parsed.title or "Report")
    lines().print(f"{parsed.out / 'report.md'}, {parsed.out / 'report.html'}")
    return 0


def write_report(studies: Sequence[tuple[str, Study]], out: Path, title: str) -> None:
    """Writes the page into a folder: a section for each study, which has the name of its own folder."""
    styles = styles_of(study for _, study in studies)
    blocks: list[Block] = [Heading(1, title)]
    for number, (name, study) in enumerate(studies, start=1):
        blocks += _section(name, study, styles, f"{number}-{name}")
    make_folder(out)
    for block in blocks:
        if isinstance(block, Picture):
            write_atomically(out / block.file, block.png)
    write_atomically(out / "report.md", markdown_of(blocks).encode())
    write_atomically(out / "report.html", html_of(blocks).encode())


def write_page(studies: Sequence[tuple[str, Study]], page: Path, question: str | None, tuned: str | None) -> None:
    """Writes a page of results, with a plot of each study as PNG and as SVG beside it.

    Args:
        studies: each with the name of its own folder.
        page: the page's file; if it exists, all that lies outside of its marks is kept.
        question: which the page answers; of a new page alone.
        tuned: what was tuned, and for whom; of a new page alone.

    Raises:
        UserError: a new page has no question or does not say what was tuned, an old one is given one, the file is none
            of Markdown, or has not both marks.
    """
    if page.suffix != ".md":
        raise UserError(f"report: --page must be a file FILE.md, but is '{page}'.")
    before, after = _by_hand(page, question, tuned)
    styles = styles_of(study for _, study in studies)
    blocks: list[Block] = []
    make_folder(page.parent)
    for name, study in studies:
        stem = name if name.startswith(page.stem) else f"{page.stem}-{name}"
        figure = scores_figure(study, styles)
        picture = Picture(f"{stem}.png", f"{study.title}: {study.score.name}, a mark for each seed", png_of(figure))
        write_atomically(page.parent / picture.file, picture.png)
        write_atomically(page.parent / f"{stem}.svg", svg_of(figure))
        link = Text(f"The same as [SVG]({stem}.svg).")
        blocks += [Heading(2, f"{study.title} ({name})"), picture, link, *results_of(study), *_settings_of(study)]
    made = f"{BEGIN}\n\n{markdown_of(blocks)}\n{END}"
    write_atomically(page, f"{before}{made}{after}".encode())


def _by_hand(page: Path, question: str | None, tuned: str | None) -> tuple[str, str]:
    """Returns what stands before and after the part that suites write."""
    if not page.exists():
        if question is None or tuned is None:
            raise UserError(
                f"report: {page} is new: give its question with --title, and with --tuned what was tuned for whom."
            )
        return f"# {question}\n\nTuned: {tuned}\n\n", "\n"
    if question is not None or tuned is not None:
        raise UserError(f"report: {page} exists: edit its text there, and leave --title and --tuned out.")
    before, begins, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not begins or not ends:
        raise UserError(f"report: {page} must hold the lines {BEGIN} and {END}, between which it is written. Add them.")
    return before, after


def _section(name: str, study: Study, styles: Styles, file: str) -> list[Block]:
    seeds = ", ".join(map(str, sorted({row.seed for row in study.rows if row.seed is not None})))
    score, size = study.score.name, f" by {study.size}" if study.size else ""
    text = f"{study.title}: {score}{size}, a dot for each seed"
    blocks: list[Block] = [
        Heading(2, f"{study.title} ({name})"),
        Picture(f"{file}-scores.png", text, png_of(scores_figure(study, styles))),
        *blocks_of(study),
        Text(f"Seeds: {seeds}."),
    ]
    if study.panels:
        shown = "; ".join(f"{panel.y} by {panel.x}" for panel in study.panels)
        text = f"{study.title}: {shown}, a band from the least to the greatest seed"
        blocks.append(Picture(f"{file}-curves.png", text, png_of(curves_figure(study, styles))))
    return [*blocks, *_settings_of(study)]


def _settings_of(study: Study) -> list[Block]:
    ran = {row.learner for row in study.rows}
    settings = [[learner, _settings(own)] for learner, own in study.learners.items() if learner in ran]
    blocks: list[Block] = [Heading(3, "Settings"), Table(("learner", "its own settings"), settings, left=(0, 1))]
    if study.shared:
        blocks.append(Text(f"All: {_settings(study.shared)}."))
    return blocks


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in settings.items())
