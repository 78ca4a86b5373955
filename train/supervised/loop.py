"""The training loop: from a config to a run folder with a trained model, its scores and its plots.

Everything that affects the result comes from the config: a run that was killed and resumed ends with bit-identical
parameters to one that was not (on one machine, with one number of threads).

Under `torchrun` each of N ranks learns from its part of a batch of N · `batch_size` sequences. Rank 0 evaluates, logs
and saves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sab_agents.distributed import Ranks
from sab_agents.optim.flat import FlatGradient
from sab_agents.train.board import Tracked, open_board
from sab_agents.train.device import device_of
from sab_agents.train.errors import TrainingError
from sab_agents.train.figures.runs import plot_attention, plot_credit, plot_learning_curve
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.supervised.checkpoint import Progress, load_checkpoint, save_checkpoint, save_model
from sab_agents.train.supervised.journal import Journal, ProgressBar, Rate
from sab_agents.train.supervised.maps import maps_of
from sab_agents.train.supervised.metrics import carried, evaluate, loss_of, part_of, reached, tensors_of
from sab_agents.train.supervised.model import SequenceModel, model_of, task_of
from sab_agents.train.trackers import check_trackers

if TYPE_CHECKING:
    from rich.console import Console

    from sab_agents.envs.supervised import SequenceTask
    from sab_agents.train.supervised.config import TrainConfig

SKIPPED_AT_FIRST, SKIPPED_FRACTION = 20, 0.01
"""A run stops once more updates than these (a number, plus a fraction of all so far) had a gradient that overflowed."""


def train(
    config: TrainConfig,
    console: Console | None = None,
    *,
    track: Sequence[str] = (),
    group: str | None = None,
    watch: Callable[[float, str], None] = lambda *_: None,
) -> dict[str, Any]:
    """Trains one model and writes its run folder.

    Args:
        config: the run's settings.
        console: shows the progress; None is standard output.
        track: trackers that show the run.
        group: of runs that it belongs to there.
        watch: called after each update with the fraction that is done, and the state in a few words.

    Returns:
        What `result.json` holds.

    Raises:
        UserError: a setting does not fit, a tracker is not installed, or the folder already holds a run.
        TrainingError: the loss is not finite, or the gradient of too many updates is not.
        RankLost: another rank has died.
    """
    check_trackers(track)
    return Trainer(config, console).run(track, group, watch)


class Trainer:
    """One run: builds the task, the model and the optimiser, and resumes from the run folder's checkpoint if asked.

    Args:
        config: the run's settings.
        console: shows the progress; None is standard output.

    Raises:
        UserError: a setting does not fit, or the folder already holds a run.
    """

    def __init__(self, config: TrainConfig, console: Console | None = None) -> None:
        self.config, self.console = config, console
        self.folder = RunFolder(config.folder)
        self.device = device_of(config.device)
        self.ranks = Ranks.join(self.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.task: SequenceTask = task_of(config)
        torch.manual_seed(config.seed)
        self.model: SequenceModel = model_of(config, self.task).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)
        self._gradient = None if self.ranks.alone else FlatGradient([self.model], figures=1)
        if not self.ranks.main:
            torch.manual_seed(config.seed + self.ranks.rank)  # after the parameters, which are the same
        self.progress = Progress()
        if config.resume and self.folder.checkpoint.exists():
            self.progress = load_checkpoint(self.folder.checkpoint, config, self.model, self.optimizer, self.ranks)
        self.ranks.share([*self.model.parameters(), *self.model.buffers()])
        if self.ranks.main:
            self.folder.create(config.settings(), resume=config.resume)

    def run(
        self,
        track: Sequence[str] = (),
        group: str | None = None,
        watch: Callable[[float, str], None] = lambda *_: None,
    ) -> dict[str, Any]:
        """Trains until a limit or the target is reached, tests, draws figures, and returns what `result.json` holds."""
        result = self.ranks.of_main(self.folder.read_result())
        if result is not None and self._finished():
            return result
        if not self.ranks.main:
            self._train(None, None)
            return self.ranks.of_main({})
        self.folder.result.unlink(missing_ok=True)
        self.folder.cut_metrics(self.progress.step)
        folder = self.folder
        tracked = Tracked(folder.path.name, track, folder.path, group, self.config.settings(), folder.tracking)
        bar = ProgressBar(self.config, self.progress.step, self.progress.seconds, self.console, watch)
        opened = open_board(folder.tensorboard, tracked, self.progress.step + 1)
        with opened as board, folder.metrics.open("a", encoding="utf-8") as log, bar:
            self._train(Journal(log, board, self.task), bar)
            return self.ranks.of_main(self._finish(Journal(log, board, self.task)))

    def _finished(self) -> bool:
        config, progress = self.config, self.progress
        out_of_time = config.minutes is not None and progress.seconds >= 60 * config.minutes
        on_target = (
            config.target is not None
            and bool(progress.validation)
            and reached(self.task.metrics[0], progress.validation[self.task.metrics[0]], config.target)
        )
        return progress.step >= config.steps or out_of_time or on_target

    def _train(self, journal: Journal | None, bar: ProgressBar | None) -> None:
        """Makes the updates; rank 0 logs them."""
        config, progress = self.config, self.progress
        rate = Rate(progress.step, progress.seconds)
        while not self._finished():
            start = time.perf_counter()
            loss, norm = self.update()
            progress.seconds += time.perf_counter() - start
            if config.minutes is not None:
                progress.seconds = self.ranks.of_main(progress.seconds)
            last = self._finished()
            if journal is not None and (progress.step % config.log_every == 0 or last):
                values = {"loss": loss, "learning_rate": self._learning_rate(progress.step - 1)}
                values |= {"gradient_norm": norm} if math.isfinite(norm) else {}
                values |= {"skipped_updates": progress.skipped, "steps_per_second": rate.measure(progress)}
                journal.write("train", progress, values)
            if bar is not None:
                bar.updated(progress.step, progress.seconds, loss, rate.last)
            if progress.step % config.eval_every == 0 or last:
                progress.validation = self.ranks.of_main(self._evaluate("validation") if self.ranks.main else {})
                if journal is not None and bar is not None:
                    journal.write("validation", progress, progress.validation)
                    journal.draw(maps_of(self.model, self.task, self.device), progress)
                    bar.evaluated(progress.step, progress.seconds, progress.validation)
            if progress.step % config.checkpoint_every == 0 or self._finished():
                if journal is not None:
                    journal.flush()
                save_checkpoint(self.folder.checkpoint, config, self.model, self.optimizer, progress, self.ranks)

    def update(self) -> tuple[float, float]:
        """One update; returns its loss and its gradient's norm before clipping.

        When many states are read in a chain the gradient can overflow although the loss is finite: such an update is
        skipped.
        """
        config, progress, ranks = self.config, self.progress, self.ranks
        whole = self.task.train_batch(progress.step, ranks.size * config.batch_size, config.seed)
        batch = part_of(whole, ranks.rank, ranks.size)
        x, targets, episode_start = tensors_of(batch, self.device)
        predictions, state = self.model(x, carried(batch, progress.state), episode_start)
        trained = torch.as_tensor(batch.trained, device=self.device)
        loss: Tensor = loss_of(self.task.loss, predictions[trained], targets[trained])
        if self._gradient is None:
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            loss = loss * (ranks.size * int(batch.trained.sum()) / int(whole.trained.sum()))  # the part's weight
            self._gradient.begin()
            loss.backward()  # type: ignore[no-untyped-call]
            (loss,) = self._gradient.average(ranks, [loss.detach()])
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        loss_value, norm_value = float(loss.detach()), float(norm)
        sound = math.isfinite(norm_value)
        progress.skipped += not sound
        if not math.isfinite(loss_value) or progress.skipped > SKIPPED_AT_FIRST + SKIPPED_FRACTION * progress.step:
            self._stop_at_non_finite(loss_value, norm_value)
        if sound:
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate(progress.step)
            self.optimizer.step()
        progress.step += 1
        progress.state = state.detach()
        return loss_value, norm_value

    def _learning_rate(self, step: int) -> float:
        """Returns the learning rate of the update after `step` updates."""
        first, final = self.config.learning_rate, self.config.final_learning_rate
        if final is None:
            return first
        return final + (first - final) * (1 + math.cos(math.pi * step / self.config.steps)) / 2

    def _stop_at_non_finite(self, loss: float, norm: float) -> None:
        kept = "no checkpoint had been written yet"
        if self.folder.checkpoint.exists():
            kept = f"the last checkpoint stays in {self.folder.checkpoint}"
        raise TrainingError(
            f"update {self.progress.step + 1} has loss {loss} and gradient norm {norm}, which must be finite "
            f"({self.progress.skipped} updates skipped so far); {kept}. Try a lower learning_rate or clip_norm."
        )

    def _evaluate(self, split: Any) -> dict[str, float]:
        size, sequences = self.config.batch_size, self.config.eval_sequences
        return evaluate(self.model, self.task, split, batch_size=size, sequences=sequences, device=self.device)

    def _finish(self, journal: Journal) -> dict[str, Any]:
        validation, test = self.progress.validation, self._evaluate("test")
        journal.write("test", self.progress, test)
        memoryless = self.task.memoryless
        result = {
            "task": self.config.task,
            "core": self.config.core,
            "settings": self.config.settings(),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "metrics": {
                name: {"test": test[name], "validation": validation[name], "memoryless": memoryless[name]}
                for name in self.task.metrics
            },
            "steps": self.progress.step,
            "seconds": round(self.progress.seconds, 3),
            "threads": torch.get_num_threads(),
        }
        if not self.ranks.alone:
            result["ranks"] = self.ranks.size
        self._plot(journal)
        save_model(self.folder.model, self.config, self.model)
        self.folder.write_result(result)
        return result

    def _plot(self, journal: Journal) -> None:
        """Writes the PNGs, from what metrics.jsonl holds, so that they show the whole run, resumed or not."""
        journal.flush()
        plots = self.folder.plots
        plots.mkdir(exist_ok=True)
        title = title_of(self.config, self.task)
        lines, metric = self.folder.read_metrics(), self.task.metrics[0]
        plot_learning_curve(plots / "learning_curve.png", title, lines, metric, self.task.memoryless)
        maps = maps_of(self.model, self.task, self.device)
        plot_credit(plots / "credit.png", title, maps)
        if maps.attention is not None:
            plot_attention(plots / "attention.png", title, maps.attention)


def title_of(config: TrainConfig, task: SequenceTask) -> str:
    """Returns the title of a run's figures: the task and its length, the core and the seed."""
    length = "" if task.length is None else f", length {task.length}"
    return f"{config.task}{length} · {config.core} · seed {config.seed}"
