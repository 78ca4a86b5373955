"""A hook of mkdocs: CHANGELOG.md becomes a page, and pages of results that mkdocs.yml does not name join the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

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
    """Adds the page of changes."""
    files.append(File.generated(config, "changelog.md", content=CHANGELOG.read_text(encoding="utf-8")))
    return files
