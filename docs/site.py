"""A hook of mkdocs: CHANGELOG.md and the notebooks become pages, and further pages of results join the others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

DOCS = Path(__file__).parent
CHANGELOG = DOCS.parent / "CHANGELOG.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds pages of results to the navigation, with their headings as titles."""
    results: list[Any] = next(part["Results"] for part in config.nav or [] if "Results" in part)
    named = {path for entry in results for path in entry.values()}
    for path in sorted((DOCS / "results").glob("*.md")):
        name = path.relative_to(DOCS).as_posix()
        if name not in named:
            title = path.read_text(encoding="utf-8").partition("\n")[0]
            results.append({title.removeprefix("#").strip(): name})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page of changes, and one for each notebook, with the outputs that it was stored with."""
    files.append(File.generated(config, "changelog.md", content=CHANGELOG.read_text(encoding="utf-8")))
    for path in sorted((DOCS / "notebooks").glob("*.ipynb")):
        text, resources = MarkdownExporter().from_filename(str(path), {"unique_key": path.stem})
        source = f"*This page is a notebook: [{path.name}]({path.name}).*\n"
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text.rstrip() + "\n\n" + source))
        for name, content in resources["outputs"].items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leads the first page's links, which are those of the repository, to the pages that `on_files` adds."""
    if page.file.src_uri != "index.md":
        return markdown
    return re.sub(r"\((notebooks/\w+)\.ipynb\)", r"(\1.md)", markdown)
