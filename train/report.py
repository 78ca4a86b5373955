"""`sab-agents report RUN…`: one page of what sweeps found, as report.md with pictures and as one report.html."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from sab_agents.train.arguments import Parser
from sab_agents.train.plots import tidy
from sab_agents.train.report_page import Block, Heading, Picture, Table, Text, html_of, markdown_of
from sab_agents.train.report_studies import Study, Trial, read_study
from sab_agents.train.run_folder import write_atomically
from sab_agents.train.sweep_plots import draw_curves, draw_scores, legend_below, name_of, panels_of, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Colours = Mapping[str, str]


def command(arguments: Sequence[str]) -> int:
    """Writes report.md, its pictures and report.html."""
    parser = Parser("report", "Lay out what sweeps found on one page, as Markdown and as one HTML file.")
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="--out folder of sab-agents agents, stream or online"
    )
    parser.add_argument("--title", default="Report", metavar="TEXT", help="default: Report")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets the page")
    given = parser.parse(arguments)
    write_report([read_study(run) for run in given.runs], given.out, given.title)
    Console(soft_wrap=True, highlight=False).print(f"{given.out / 'report.md'}, {given.out / 'report.html'}")
    return 0


def write_report(studies: Sequence[Study], out: Path, title: str) -> None:
    """Writes the page of some studies into a folder."""
    blocks = blocks_of(studies, title)
    out.mkdir(parents=True, exist_ok=True)
    for block in blocks:
        if isinstance(block, Picture):
            write_atomically(out / block.file, block.png)
    write_atomically(out / "report.md", markdown_of(blocks).encode())
    write_atomically(out / "report.html", html_of(blocks).encode())


def blocks_of(studies: Sequence[Study], title: str) -> list[Block]:
    """The page: a section for each study."""
    colours = colours_of(studies)
    blocks: list[Block] = [Heading(1, title)]
    for number, study in enumerate(studies, start=1):
        blocks += _section(study, colours, f"{number}-{study.name}")
    return blocks


def colours_of(studies: Sequence[Study]) -> Colours:
    """A colour for each learner's name, the same in all studies."""
    names = dict.fromkeys(learner for study in studies for learner in study.learners)
    return {name: f"C{number}" for number, name in enumerate(names)}


def _section(study: Study, colours: Colours, file: str) -> list[Block]:
    seeds = ", ".join(map(str, sorted({trial.seed for trial in study.trials})))
    target = f" A trial ends at {study.target:.0%}, or at its budget." if study.target is not None else ""
    blocks: list[Block] = [
        Heading(2, f"{study.task} ({study.name})"),
        Text(f"{study.note}{target} Seeds: {seeds}."),
        _table(study),
        *_known(study),
        Picture(
            f"{file}-scores.png",
            f"{study.task}: {study.score[0]} by {study.size}, a dot for each seed",
            _png(scores_figure(study, colours)),
        ),
    ]
    if study.progress:
        text = f"{study.task}: {study.score[0]} by {study.progress}, a thin line for each seed"
        blocks.append(Picture(f"{file}-curves.png", text, _png(curves_figure(study, colours))))
    if any(trial.tests for trial in study.trials):
        blocks += [Heading(3, "Tests at other sizes"), _tests(study)]
    settings = [[name, _settings(own)] for name, own in study.learners.items()]
    blocks += [Heading(3, "Settings"), Table(("learner", "its own settings"), settings, left=(0, 1))]
    if study.shared:
        blocks.append(Text(f"All: {_settings(study.shared)}."))
    return blocks


def scores_figure(study: Study, colours: Colours) -> Figure:
    """Scores by size."""
    canvas, ((axes,),) = panels_of(1)
    canvas.set_size_inches(6.4, 3.8)
    scores = {
        learner: {value: [trial.score for trial in study.of(learner, value)] for value in study.values}
        for learner in study.learners
    }
    draw_scores(axes, scores, colours, study.known)
    one = f"{study.size} {name_of(study.values[0])}" if len(study.values) == 1 else ""
    tidy(axes, one, "" if one else study.size, study.score[0])
    legend_below(canvas)
    return canvas


def curves_figure(study: Study, colours: Colours) -> Figure:
    """Learning curves, a panel for each value."""
    canvas, (panels,) = panels_of(len(study.values))
    for axes, value in zip(panels, study.values, strict=True):
        curves = {learner: [trial.curve for trial in study.of(learner, value)] for learner in study.learners}
        draw_curves(axes, curves, colours, study.known[value])
        tidy(axes, f"{study.size} {name_of(value)}", study.progress, study.score[0])
    legend_below(canvas)
    return canvas


def _table(study: Study) -> Table:
    """A row for each value and learner."""
    reached = [] if study.target is None else [f"seeds at {study.target:.0%}"]
    rows = [
        [name_of(value), learner, *_figures(study, found)]
        for value in study.values
        for learner in study.learners
        if (found := study.of(learner, value))
    ]
    headings = (study.size, "learner", *reached, f"{study.score[0]}, mean (least … greatest)", *study.facts)
    return Table(headings, rows, left=(1,))


def _known(study: Study) -> list[Block]:
    """What is known of the policies that learnt nothing, by value; nothing where nothing is."""
    rows = []
    for policy in ("best", "memoryless", "random"):
        scores = [study.known[value].get(policy) for value in study.values]
        if any(score is not None for score in scores):
            rows.append([policy, *("" if score is None else study.score[1].format(score) for score in scores)])
    headings = (f"{study.score[0]} of the policy", *(f"{study.size} {name_of(value)}" for value in study.values))
    return [Table(headings, rows)] if rows else []


def _figures(study: Study, found: Sequence[Trial]) -> list[str]:
    reached = [] if study.target is None else [f"{sum(bool(trial.reached) for trial in found)} of {len(found)}"]
    facts = [form.format(np.mean([trial.facts[name] for trial in found])) for name, form in study.facts.items()]
    return [*reached, spread([trial.score for trial in found], study.score[1]), *facts]


def _tests(study: Study) -> Table:
    """Success at sizes that nothing was trained at."""
    sizes = list(dict.fromkeys(size for trial in study.trials for size in trial.tests))
    rows = [
        [name_of(value), learner, *(_tested(found, size) for size in sizes)]
        for value in study.values
        for learner in study.learners
        if (found := study.of(learner, value))
    ]
    names = [name_of(int(size) if size.isdecimal() else size) for size in sizes]
    return Table((f"trained at {study.size}", "learner", *names), rows, left=(1,))


def _tested(found: Sequence[Trial], size: str) -> str:
    scores = [trial.tests[size] for trial in found if size in trial.tests]
    return spread(scores, "{:.1%}") if scores else ""


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in settings.items())


def _png(canvas: Figure) -> bytes:
    content = io.BytesIO()
    canvas.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
