"""Supervised sequence tasks whose batches are numpy arrays: copying, adding, recall, characters and pixels."""

from sab_agents.envs.supervised.adding import Adding
from sab_agents.envs.supervised.build import TASKS, make_task, settings_of
from sab_agents.envs.supervised.characters import Characters
from sab_agents.envs.supervised.copying import Copying
from sab_agents.envs.supervised.pixels import Pixels
from sab_agents.envs.supervised.recall import Recall
from sab_agents.envs.supervised.task import Batch, SequenceTask, Split

__all__ = [
    "TASKS",
    "Adding",
    "Batch",
    "Characters",
    "Copying",
    "Pixels",
    "Recall",
    "SequenceTask",
    "Split",
    "make_task",
    "settings_of",
]
