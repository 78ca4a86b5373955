"""Which parts of an algorithm a file leaves out, by stable-baselines3's `exclude` and `include`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

CONTEXTS = "contexts"
"""What `save` can leave out beside arguments: what credit replays of a memory with slots."""


def left_out(
    owner: str, known: Collection[str], what: str, exclude: Iterable[str] | None, include: Iterable[str] | None
) -> set[str]:
    """Returns the names that are excluded and not included.

    Args:
        owner: the algorithm that is saved.
        known: the names of a file's parts.
        what: these in a few words.
        exclude: names to leave out; unknown ones are in no file anyway.
        include: names to keep although they are in `exclude`.

    Raises:
        TypeError: `exclude` or `include` is one text, whose letters would be taken for names.
        ValueError: `include` names what a file does not hold.
    """
    for given, names in (("exclude", exclude), ("include", include)):
        if isinstance(names, str):
            raise TypeError(f"{owner}.save: {given} must be a list of names, but is {names!r}. Use [{names!r}].")
    included = set(include or ())
    if unknown := sorted(included.difference(known)):
        raise ValueError(
            f"{owner}.save: include must name {what}, but has {', '.join(unknown)}. Save what is your own next to the "
            "file."
        )
    return set(exclude or ()) - included
