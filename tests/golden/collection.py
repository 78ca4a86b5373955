"""All golden cases."""

from __future__ import annotations

from tests.golden import agents, files, learners, sequences, streams
from tests.golden.case import Case

CASES: dict[str, Case] = {
    case.id: case for module in (sequences, streams, learners, agents, files) for case in module.cases()
}
"""Every case by its id."""
