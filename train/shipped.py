"""The configs that come with the package, under the names that they have in the repository."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "configs"


def shipped_configs() -> dict[str, Path]:
    """Returns the file of each config by its name: its path below `configs/`, without the suffix."""
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.rglob("*.yaml"))}


def config_path(text: str) -> Path:
    """Returns the file that a command line names.

    Args:
        text: a path; or a config of the package, as `recall`, `recall.yaml` or `configs/recall.yaml`.

    Returns:
        The file. A path at which there is none is returned as it is.
    """
    path = Path(text)
    if path.is_file():
        return path
    return shipped_configs().get(text.removeprefix("configs/").removesuffix(".yaml"), path)
