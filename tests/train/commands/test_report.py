"""`sab-agents report`: the page says what the suites' files say, and its HTML needs no other file."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sab_agents.train.cli import main
from sab_agents.train.configuration import build
from sab_agents.train.figures.studies import COLOURS, KNOWN, curves_figure, scores_figure, styles_of
from sab_agents.train.suites.engine import FORMAT, VERSION, run_suite
from sab_agents.train.suites.page import Block, Heading, Picture, Table, Text, html_of, markdown_of
from sab_agents.train.suites.stream import Stream, StreamConfig
from sab_agents.train.suites.study import Column, Panel, Row, Study
from tests.train.suites.test_stream import TINY as STREAM

PNG = b"\x89PNG\r\n\x1a\n"


def maze_row(learner: str, value: int, seed: int, success: float) -> Row:
    curve = [(steps, success) for steps in (500, 1000)]
    return Row(
        learner,
        value,
        seed,
        {"return": success, "success": success, "steps": 1000 + 2000 * seed, "minutes": 1.5},
        reached=success >= 0.99,
        curves={"success": curve, "return": curve},
        tests={"9000": success / 2},
    )


MAZE = Study(
    title="SAB/PassiveTMaze-v0",
    size="corridor_length",
    values=(50, 500),
    learners={"sab": {"policy": "MlpSabPolicy"}, "lstm <a|b>": {"policy": "MlpLstmPolicy"}},
    shared={"n_steps": 128},
    columns=(
        Column("return", spread=True),
        Column("success", "{:.1%}", spread=True),
        Column("steps", "{:,.0f}"),
        Column("minutes", "{:.1f}"),
    ),
    rows=(
        *(maze_row("sab", value, seed, 1.0) for value in (50, 500) for seed in (0, 1)),
        *(maze_row("lstm <a|b>", 50, seed, success) for seed, success in enumerate((0.4, 0.6))),
    ),
    panels=(Panel("success", "steps", "success", known=False), Panel("return", "steps", "return")),
    target=0.99,
    known={value: {"best": 1.0, "random": 0.1, "memoryless": 0.5} for value in (50, 500)},
    note="Note.",
)
RECALL = Study(
    title="Delayed recall",
    size="delay",
    values=(50, 500),
    learners={"sab, noise 0": {}, "sab, noise 1": {}},
    columns=(Column("accuracy", "{:.1%}", spread=True), Column("steps", "{:,.0f}")),
    rows=tuple(
        Row(f"sab, noise {noise}", delay, 0, {"accuracy": 0.9 + noise / 100, "steps": 31808}, reached=False)
        for delay in (50, 500)
        for noise in (0, 1)
    ),
    target=0.99,
    known={delay: {"best": 1.0, "memoryless": 1 / 8} for delay in (50, 500)},
    note="Note.",
)


def folder_of(tmp_path: Path, name: str, study: Study) -> str:
    folder = tmp_path / name
    folder.mkdir()
    content = {"format": FORMAT, "version": VERSION, "suite": name, "study": study.to_json()}
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return str(folder)


EARLIER = '{"settings": {"values": [1]}, "cells": []}'


def rows_of(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


class Page(HTMLParser):
    """Collects a page's rows, and the sources of its images; fails on a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]
        if tag == "img":
            self.images.append(str(given["src"]))
        if tag not in ("img", "meta"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture
def page(tmp_path: Path) -> Path:
    run_suite(Stream(build(StreamConfig, {**STREAM, "seeds": [0], "episodes": 10})), tmp_path / "chain")
    runs = [folder_of(tmp_path, "maze", MAZE), str(tmp_path / "chain"), folder_of(tmp_path, "recall", RECALL)]
    assert main(["report", *runs, "--title", "All of it", "--out", str(tmp_path / "page")]) == 0
    return tmp_path / "page"


def test_the_page_says_what_the_files_say(page: Path) -> None:
    markdown = (page / "report.md").read_text(encoding="utf-8")
    rows = rows_of(markdown)
    for row in (
        ["50", "sab", "2 of 2", "1.00", "100.0%", "2,000", "1.5"],
        ["50", r"lstm <a\|b>", "0 of 2", "0.50 (0.40 … 0.60)", "50.0% (40.0% … 60.0%)", "2,000", "1.5"],
        ["memoryless", "0.50", "0.50"],
        ["50", r"lstm <a\|b>", "25.0% (20.0% … 30.0%)"],
        ["500", "sab, noise 1", "0 of 1", "91.0%", "31,808"],
        ["memoryless", "12.5%", "12.5%"],
        ["sab", '`policy: "MlpSabPolicy"`'],
    ):
        assert row in rows
    assert not [row for row in rows if row[:2] == ["500", r"lstm <a\|b>"]]  # it was not run there
    chain = json.loads((page.parent / "chain" / "result.json").read_text())["cells"][0]
    expected = [str(chain["value"]), chain["policy"], "1", f"{chain['score']:.2f}"]
    assert [row for row in rows if row[:4] == expected]
    assert ["best", "1.00", "1.00"] in rows
    assert markdown.startswith("# All of it\n")


def test_the_html_is_one_whole_file_with_the_same_tables_and_pictures(page: Path) -> None:
    markdown = (page / "report.md").read_text(encoding="utf-8")
    html = Page((page / "report.html").read_text(encoding="utf-8"))
    files = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", markdown)
    assert files == [
        *("1-maze-scores.png", "1-maze-curves.png", "2-chain-scores.png", "2-chain-curves.png", "3-recall-scores.png")
    ]
    assert {path.name for path in page.iterdir()} == {*files, "report.md", "report.html"}
    prefix = "data:image/png;base64,"
    assert html.links == html.images
    assert [base64.b64decode(source.removeprefix(prefix)) for source in html.images] == [
        (page / file).read_bytes() for file in files
    ]
    assert all((page / file).read_bytes().startswith(PNG) for file in files)
    rows = [row for row in rows_of(markdown) if not set(row[0]) <= set("-:")]
    plain = [[re.sub(r"[*`]", "", cell).replace("\\|", "|") for cell in row] for row in rows]
    assert html.rows == plain


def test_a_learner_has_one_colour_in_all_pictures() -> None:
    turned = dataclasses.replace(MAZE, learners={name: MAZE.learners[name] for name in reversed(list(MAZE.learners))})
    studies = [MAZE, turned]
    figures = [draw(study, styles_of(studies)) for study in studies for draw in (scores_figure, curves_figure)]
    for learner in MAZE.learners:
        lines = [line for each in figures for axes in each.axes for line in axes.lines if line.get_label() == learner]
        assert len(lines) >= 4
        assert len({line.get_color() for line in lines}) == 1
    assert figures[0].axes[0].lines[0].get_color() != figures[0].axes[0].lines[1].get_color()


def test_best_and_memoryless_scores_are_drawn_as_lines() -> None:
    scores, curves = (draw(MAZE, styles_of([MAZE])) for draw in (scores_figure, curves_figure))
    returns = curves.axes[2:]
    assert [axes.get_ylabel() for axes in curves.axes] == ["success", "success", "return", "return"]
    for axes in (*scores.axes, *returns):
        heights = {line.get_label(): set(np.asarray(line.get_ydata()).tolist()) for line in axes.lines}
        assert heights["best"] == {1.0}
        assert heights["memoryless"] == {0.5}
    assert "best" not in {line.get_label() for line in curves.axes[0].lines}


def test_a_baseline_is_grey_and_dashed() -> None:
    rows = [Row(name, "", None, {"score": 1.0}, curves={"p": [(0.0, 1.0), (1.0, 2.0)]}) for name in ("a", "nobody")]
    study = Study(
        "t",
        ("",),
        {"a": {}},
        (Column("score"),),
        tuple(rows),
        "",
        panels=(Panel("p", "x", "y"),),
        baselines=("nobody",),
    )
    a, nobody = curves_figure(study, styles_of([study])).axes[0].lines
    assert (a.get_linestyle(), a.get_color(), nobody.get_linestyle()) == ("-", COLOURS[0], "--")
    assert nobody.get_color() != a.get_color()


def test_marks_are_kept_apart_from_what_the_text_says() -> None:
    blocks: list[Block] = [
        Heading(1, "a < b"),
        Text("*apart* `x < *y*` & z"),
        Table(("a", "b"), [["1|2", "`k: \"v\"`"]], left=(1,)),
        Picture("p.png", 'a "quoted" text', PNG),
    ]  # fmt: skip
    html = html_of(blocks)
    assert "<title>a &lt; b</title>" in html
    assert "<p><em>apart</em> <code>x &lt; *y*</code> &amp; z</p>" in html
    assert '<td>1|2</td><td class="left"><code>k: &quot;v&quot;</code></td>' in html
    assert 'alt="a &quot;quoted&quot; text"' in html
    assert "| ---: | --- |\n| 1\\|2 |" in markdown_of(blocks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no result.json. Give the --out folder of a suite."),
        *((text, "was not written by a suite of this version") for text in ("{", "[]", '{"format": 3}', EARLIER)),
    ],
)
def test_a_folder_without_a_suite_is_refused(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content, encoding="utf-8")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "page").exists()


def test_a_page_of_results_is_made_by_one_command_and_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path, name, study) for name, study in (("maze", MAZE), ("recall", RECALL))]
    page = tmp_path / "results" / "memory.md"
    command = ["report", *folders, "--page", str(page)]
    assert main([*command, "--title", "Does memory help?", "--tuned", "nothing"]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Does memory help?\n\nTuned: nothing\n\n<!-- written by")
    assert "| 50 | sab | 2 of 2 | 1.00 | 100.0% | 2,000 | 1.5 |" in text
    assert "0.50 [0.40, 0.60] | 50.0% [40.0%, 60.0%]" in text
    assert "95 % bootstrap intervals" in text
    pictures = {"memory-maze", "memory-recall"}
    assert {path.name for path in page.parent.iterdir()} == {
        "memory.md",
        *(f"{name}.{kind}" for name in pictures for kind in ("png", "svg")),
    }
    for name in pictures:
        assert f"({name}.png)" in text
        png, svg = ((page.parent / f"{name}.{kind}").read_bytes() for kind in ("png", "svg"))
        assert png.startswith(PNG)
        assert b"<svg" in svg
        assert max(len(png), len(svg)) < 100_000
    page.write_text(text.replace("Tuned: nothing", "By hand.") + "Remarks.\n", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert main(command) == 0
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "existing", "message"),
    [
        ([], None, "give --out FOLDER for a report or --page FILE.md for a page of results, one of both"),
        (["--page", "p.md"], None, "p.md is new: give its question with --title, and with --tuned what was tuned"),
        (["--page", "p.txt"], None, "--page must be a file FILE.md, but is 'p.txt'"),
        (["--page", "p.md", "--title", "Q"], "text", "p.md exists: edit its text there"),
        (["--page", "p.md"], "text", "p.md must hold the lines <!-- written by sab-agents report"),
        (["--out", "o", "--tuned", "x"], None, "--tuned is of a page of results"),
    ],
)
def test_what_a_page_lacks_is_one_line_of_error(
    options: list[str],
    existing: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = folder_of(tmp_path, "recall", RECALL)
    monkeypatch.chdir(tmp_path)
    if existing is not None:
        Path("p.md").write_text(existing, encoding="utf-8")
    assert main(["report", folder, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))


def test_known_learners_look_the_same_in_every_figure_and_no_two_alike() -> None:
    names = ["z", "sab", *map(str, range(20)), "mingru", "lstm_tbptt"]
    many = dataclasses.replace(MAZE, learners={name: {} for name in names})
    few = dataclasses.replace(MAZE, learners={"mingru": {}, "sab": {}})
    assert len(set(styles_of([many]).values())) == len(names)
    for name in ("sab", "mingru"):
        assert styles_of([many])[name] == styles_of([few])[name] == KNOWN[name]
    assert len({style.colour for style in map(KNOWN.get, ("sab", "sab_uncredited", "lstm", "rtu")) if style}) == 4
