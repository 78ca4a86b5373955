"""The notebooks run, here at a small size, and hold the outputs of a run at full size."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = {path.stem: path for path in sorted((DOCS / "notebooks").glob("*.ipynb"))}
SMALL: dict[str, dict[str, int]] = {
    "module": {"DELAY": 12, "UPDATES": 12, "TESTED": 20},
    "stream": {"ANSWERS": 40},
    "agent": {"LENGTH": 5, "STEPS": 1024},
    "results": {},
}
"""For each notebook what takes the place of the numbers in its cell of parameters."""


def cells_of(name: str, kind: str) -> list[dict[str, Any]]:
    content = json.loads(NOTEBOOKS[name].read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def test_every_notebook_has_a_small_size() -> None:
    assert set(SMALL) == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []

    def show() -> None:
        figures.append(plt.gcf())
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    pages = [page.relative_to(DOCS) for page in DOCS.rglob("*.md")]
    for page in pages:  # the notebook of results reads them
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DOCS / page, tmp_path / page)
    (tmp_path / "notebooks").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "notebooks")
    variables: dict[str, Any] = {"__name__": "__main__"}
    parameters = []
    with plt.rc_context({"backend": "agg"}):
        for cell in cells_of(name, "code"):
            exec(compile("".join(cell["source"]), f"{name}.ipynb", "exec", dont_inherit=True), variables)
            if "parameters" in cell["metadata"].get("tags", ()):
                parameters += [each for each in variables if each.isupper()]
                variables |= SMALL[name]
    assert set(parameters) == set(SMALL[name])
    assert figures


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_holds_the_outputs_of_a_run_from_its_start_without_errors(name: str) -> None:
    cells = cells_of(name, "code")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", ()) for output in outputs)
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    for output in outputs:
        assert output.get("name", "stdout") == "stdout"
        assert not re.search(r"/\w+/\w+/", "".join(output.get("text", "")))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_links_of_a_notebook_lead_somewhere(name: str) -> None:
    text = "\n".join("".join(cell["source"]) for cell in cells_of(name, "markdown"))
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert links
    for link in links:
        assert (NOTEBOOKS[name].parent / link).exists(), link
