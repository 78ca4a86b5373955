"""`sab-agents report FOLDER…`: what suites found on one page, as report.md with pictures and as one report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sab_agents.train.commands.arguments import Parser
from sab_agents.train.figures.canvas import png_of
from sab_agents.train.figures.studies import Colours, colours_of, curves_figure, scores_figure
from sab_agents.train.output import lines, write_atomically
from sab_agents.train.suites.page import Block, Heading, Picture, Table, Text, html_of, markdown_of
from sab_agents.train.suites.runs import studies_in
from sab_agents.train.suites.study import Study, blocks_of


def command(arguments: Sequence[str]) -> int:
    """Writes report.md, its pictures and report.html."""
    parser = Parser("report", "Lay out what suites found on one page, as Markdown and as one HTML file.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of a suite, or of a run")
    parser.add_argument("--title", default="Report", metavar="TEXT", help="default: Report")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets the page")
    parsed = parser.parse(arguments)
    studies = studies_in(parsed.folders)
    write_report(studies, parsed.out, parsed.title)
    lines().print(f"{parsed.out / 'report.md'}, {parsed.out / 'report.html'}")
    return 0


def write_report(studies: Sequence[tuple[str, Study]], out: Path, title: str) -> None:
    """Writes the page into a folder: a section for each study, which has the name of its own folder."""
    colours = colours_of(study for _, study in studies)
    blocks: list[Block] = [Heading(1, title)]
    for number, (name, study) in enumerate(studies, start=1):
        blocks += _section(name, study, colours, f"{number}-{name}")
    out.mkdir(parents=True, exist_ok=True)
    for block in blocks:
        if isinstance(block, Picture):
            write_atomically(out / block.file, block.png)
    write_atomically(out / "report.md", markdown_of(blocks).encode())
    write_atomically(out / "report.html", html_of(blocks).encode())


def _section(name: str, study: Study, colours: Colours, file: str) -> list[Block]:
    seeds = ", ".join(map(str, sorted({row.seed for row in study.rows if row.seed is not None})))
    score, size = study.score.name, f" by {study.size}" if study.size else ""
    text = f"{study.title}: {score}{size}, a dot for each seed"
    blocks: list[Block] = [
        Heading(2, f"{study.title} ({name})"),
        *blocks_of(study),
        Text(f"Seeds: {seeds}."),
        Picture(f"{file}-scores.png", text, png_of(scores_figure(study, colours))),
    ]
    if study.panels:
        shown = "; ".join(f"{panel.y} by {panel.x}" for panel in study.panels)
        text = f"{study.title}: {shown}, a thin line for each seed"
        blocks.append(Picture(f"{file}-curves.png", text, png_of(curves_figure(study, colours))))
    settings = [[learner, _settings(own)] for learner, own in study.learners.items()]
    blocks += [Heading(3, "Settings"), Table(("learner", "its own settings"), settings, left=(0, 1))]
    if study.shared:
        blocks.append(Text(f"All: {_settings(study.shared)}."))
    return blocks


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in settings.items())
