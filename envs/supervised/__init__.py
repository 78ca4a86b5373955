"""Supervised sequence tasks, as batches of NumPy arrays and as environments in which an action is a prediction."""

from sab_agents.envs.supervised.adding import Adding
from sab_agents.envs.supervised.characters import Characters
from sab_agents.envs.supervised.copying import Copying
from sab_agents.envs.supervised.digit_recall import DigitRecall
from sab_agents.envs.supervised.pixels import Pixels
from sab_agents.envs.supervised.recall import Recall
from sab_agents.envs.supervised.registry import TASKS, environment_of, make_task, settings_of
from sab_agents.envs.supervised.task import Batch, SequenceTask, Split

__all__ = [
    "TASKS",
    "Adding",
    "Batch",
    "Characters",
    "Copying",
    "DigitRecall",
    "Pixels",
    "Recall",
    "SequenceTask",
    "Split",
    "environment_of",
    "make_task",
    "settings_of",
]
