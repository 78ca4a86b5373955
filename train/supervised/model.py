"""The model that is trained on a sequence task: a core and a linear head.

Dimensions: T steps, B sequences, I input size, O the task's output size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sab_agents.checks import did_you_mean
from sab_agents.core.registry import build_core
from sab_agents.envs.supervised import TASKS, make_task
from sab_agents.train.errors import UserError, one_line

if TYPE_CHECKING:
    from sab_agents.core.base import Core
    from sab_agents.core.state import State
    from sab_agents.envs.supervised import SequenceTask
    from sab_agents.train.supervised.config import TrainConfig


class SequenceModel(nn.Module):
    """A core and a linear head on its output.

    Args:
        core: any of `sab_agents.core`'s cores, with time first.
        output_size: O, classes or 1.
    """

    def __init__(self, core: Core[Any], output_size: int) -> None:
        super().__init__()
        self.core = core
        self.head = nn.Linear(core.output_size, output_size)

    def forward(
        self, x: Tensor, state: State | None = None, episode_start: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Predicts for every step.

        Args:
            x: (T, B, I) inputs.
            state: carried from the steps before; None starts every sequence.
            episode_start: (T, B) bool, the steps at which a sequence starts.

        Returns:
            (T, B, O) predictions and the state after the last step.

        Raises:
            TypeError, ValueError: as the core does, for arguments that do not fit.
        """
        output, state = self.core(x, state, episode_start)
        return self.head(output), state


def task_of(config: TrainConfig) -> SequenceTask:
    """Returns the config's task.

    Raises:
        UserError: the task is unknown, its data is missing, or a setting does not fit it.
    """
    if config.task not in TASKS:
        raise UserError(f"task: unknown task '{config.task}'. {did_you_mean(config.task, TASKS)}")
    try:
        return make_task(config.task, **config.task_settings())
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise UserError(one_line(error)) from error


def model_of(config: TrainConfig, task: SequenceTask) -> SequenceModel:
    """Returns the config's model for `task`, with parameters drawn from torch's random state.

    Raises:
        UserError: the core is unknown, or a setting does not fit it.
    """
    try:
        core = build_core(config.core, task.input_size, config.hidden_size, **config.settings_of_core())
    except (ValueError, TypeError) as error:
        raise UserError(one_line(error)) from error
    return SequenceModel(core, task.output_size)
