"""Why a learner does not learn: what its latest windows did, figures of them and of its memory, and advice.

Dimensions: T steps of a window, B rows, b of them that are kept, S slots, W windows that are kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sab_agents.online.answers import Answers, is_noted
from sab_agents.streaming import RECORDED, Credit, GradientNorms, Reads, SABStream, Stream, held_figures

NOTED, RAREST = 8, 256
"""Windows that are noted one and all; after n of them one of n / 8 is, until it is one of 256."""
ROWS = 32
"""Rows whose reads and writes are kept."""
ENOUGH = 8
"""Windows without which nothing is said about reads, credit and gradients."""
STILL = 100
"""Steps without a write before a memory may count as frozen."""
FEW = 0.01
"""Fraction of steps below which writes in an endless stream are too few."""
MANY_TIMES = 10
"""How often the memory must have been written over before slots may count as old."""
LARGE_H = 10.0
"""An LSTM's |h| is at most 1; with what it reads added once or twice it is still far below this."""
LARGE_OUTPUT = 100.0
"""The same for a core without slots, whose outputs need not be bounded."""
LARGE_INPUT, SMALL_INPUT = 20.0, 0.01
"""A feature of 10 beside others of 1 does no harm, one of 30 does, and one of 100 leaves nothing to be learnt."""
DWARFED = 10.0
"""How many times the window's gradient credit's may have."""
NO_CHANGE = 0.05
"""A mean change of reads below which they do not depend on the step; of learners that learn it is above 0.5."""
DECLINED = 0.99
OVERFLOWED = 0.1
GUESSED = 0.97
"""The loss, as a fraction of a constant answer's, from which on nothing of the answers is known."""
MANY_ANSWERS, MANY_UPDATES = 32, 500
"""Without which nothing is said about that."""
LARGE_RATE = 0.1
"""With which Adam moves every parameter by as much as it is large itself."""


class Numbers(NamedTuple):
    """Of one window.

    Attributes:
        first: steps of the stream before it.
        largest_h: greatest absolute value of the core's outputs.
        input_scale: root mean square of the feature for which it is greatest.
        window_gradient: see `GradientNorms.window`.
        credit_gradient: see `GradientNorms.credit`.
        credited: slots that were, of all rows.
        credit: sum of the norms of the gradients that reached slots.
        credit_distance: mean steps from the window back to what was credited; 0 if nothing was.
        dropped_links: see `Credit.dropped`.
    """

    first: float
    largest_h: float
    input_scale: float
    window_gradient: float
    credit_gradient: float
    credited: float
    credit: float
    credit_distance: float
    dropped_links: float


class WindowHistory:
    """Keeps some windows that were learnt from; its size does not grow with the stream.

    The first windows are all noted, later ones ever more rarely, see `NOTED`: 16 that are kept cover most of a young
    stream and the last 4,000 windows of an old one, at next to no cost.

    Args:
        length: W, windows that are kept; 0 notes none.
    """

    def __init__(self, length: int) -> None:
        self._windows: deque[dict[str, npt.NDArray[Any]]] = deque(maxlen=length)

    def __len__(self) -> int:
        return len(self._windows)

    def wants(self, update: int) -> bool:
        """Whether the window of this update, counted from 0, is to be noted."""
        if self._windows.maxlen == 0:
            return False
        fraction = max(1 / RAREST, min(1.0, NOTED / (update + 1)))
        return is_noted(update, fraction)

    def clear(self) -> None:
        """Forgets all windows."""
        self._windows.clear()

    def add(self, stream: Stream, first: int, outputs: Tensor, credit: Credit, norms: GradientNorms) -> None:
        """Notes the stream's window, which was replayed and credited.

        Args:
            stream: whose window is open.
            first: steps of the stream before it.
            outputs: (T, B, F) of the replay.
            credit: from `Stream.credit`.
            norms: of the gradient.
        """
        recorded = stream.recorded()
        arrays: dict[str, npt.NDArray[Any]] = {}
        # numpy computes with few numbers in a fraction of the time.
        observation = _floats(recorded["observation"])
        squares = np.square(observation).reshape(-1, math.prod(observation.shape[2:]))
        output, distance, amount = _floats(outputs), 0.0, np.empty(0, np.float32)
        if isinstance(stream, SABStream):
            arrays |= {name: recorded[name][:, :ROWS].numpy(force=True).copy() for name in RECORDED}
            before, norm = stream.before, _floats(credit.norm)
            arrays["filled"] = np.any(before.filled[:ROWS].numpy(force=True), axis=1)
            rows, slots = np.nonzero((norm > 0) & np.isfinite(norm))
            amount = norm[rows, slots]
            if len(rows):
                steps, written_at = before.step.numpy(force=True)[rows], before.written_at.numpy(force=True)
                distance = float(np.average(steps - written_at[rows, slots], weights=amount))
        numbers = Numbers(
            first=float(first),
            largest_h=float(max(output.max(), -output.min())),
            input_scale=math.sqrt(squares.mean(0).max()),
            window_gradient=norms.window,
            credit_gradient=norms.credit,
            credited=float(len(amount)),
            credit=float(amount.sum()),
            credit_distance=distance,
            dropped_links=float(credit.dropped),
        )
        self._windows.append(arrays | {"numbers": np.array(numbers)})

    def numbers(self) -> list[Numbers]:
        """Returns the numbers of all kept windows, oldest first."""
        return [Numbers(*window["numbers"].tolist()) for window in self._windows]

    def reads(self) -> Reads | None:
        """Returns the reads of all kept windows; None if the stream has no slots or nothing was noted."""
        if not self._windows or "filled" not in self._windows[0]:
            return None
        pairs = zip(self._windows, self.numbers(), strict=True)
        return Reads.joined(
            [
                Reads.of(
                    {name: torch.from_numpy(window[name]) for name in RECORDED},
                    torch.from_numpy(window["filled"]),
                    int(numbers.first),
                )
                for window, numbers in pairs
            ]
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns all windows side by side, (W, …) by name; nothing if there is none."""
        if not self._windows:
            return {}
        names = self._windows[0]
        return {name: torch.from_numpy(np.stack([window[name] for window in self._windows])) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes from what `state_dict` returned; of more windows than are kept the latest."""
        self._windows.clear()
        count = min((len(each) for each in state_dict.values()), default=0)
        for index in range(count):
            self._windows.append({name: each[index].numpy().copy() for name, each in state_dict.items()})


def _floats(tensor: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    return array


def _figure(group: str, form: str, meaning: str) -> Any:
    """Returns a field that is a figure: None where there is none."""
    return field(default=None, metadata={"group": group, "form": form, "meaning": meaning})


@dataclass(frozen=True)
class Diagnosis:
    """What `OnlineLearner.diagnose` found; printed, it is a table and a line of advice for each problem.

    Figures of writes, reads, credit and gradients are means over the latest windows that were noted, those of held
    slots describe the present. A figure that there is nothing to compute from, such as those of slots with a core
    that has none, is None.

    Attributes:
        core: name of the learner's core.
        steps: of the stream.
        updates: made; each learns from a window with a target.
        windows: that were noted.
        slots: of the memory of a row.
        loss: mean over the latest answers, the older ones with less weight.
        constant_loss: the least that the same answer to all of them would have had.
        filled_slots: of a row, on average.
        episode_steps: steps since the episode's start; mean over the rows.
        held_age: mean steps since a held slot was written.
        steps_since_write: steps since the last write, or since the episode's start; mean over the rows.
        write_rate: fraction of steps that wrote.
        used_slots: filled slots of a row that were read lately.
        reading_steps: fraction of steps that read something.
        declined_reads: fraction of the steps with a filled slot that read nothing: all scores tied, or it declined.
        read_distance: mean steps back to what was read, weighted by attention.
        read_before: fraction of the attention that went to what was written before the window.
        read_memories: how many different memories a row read (exponential of the entropy of their weights).
        read_change: how much what a step reads differs from its row's mean: 0 not at all, 1 wholly.
        credited_slots: slots of a row that a window credited, on average.
        credit_norm: mean norm of the gradient that reached a credited slot.
        credit_distance: mean steps from a window back to what it credited, weighted by these norms.
        dropped_links: links to slots no longer held that a window's credit could not follow, on average.
        window_gradient: mean norm of the gradient that the core's parameters got from the window's own steps.
        credit_gradient: mean norm of what credit to earlier steps added to it.
        skipped_updates: fraction of updates left out because the gradient was not finite.
        learning_rate: of the optimiser's first group of parameters.
        largest_h: greatest absolute value of h, of the windows' outputs and of the slots.
        h_growth: greatest absolute output of the newer half of the windows, over that of the older half.
        input_scale: root mean square of the feature of the inputs for which it is greatest; None with an encoder.
        advice: for each problem that was found its name and a line that says what to change.
    """

    core: str
    steps: int
    updates: int
    windows: int
    slots: int | None
    loss: float | None = _figure("answers", ".3g", "mean of the latest losses")
    constant_loss: float | None = _figure("answers", ".3g", "that of the same answer to all")
    filled_slots: float | None = _figure("memory", ".1f", "slots of a row hold something, of {slots}")
    episode_steps: float | None = _figure("memory", ",.1f", "steps since an episode started")
    held_age: float | None = _figure("memory", ",.1f", "steps since a held slot was written")
    steps_since_write: float | None = _figure("memory", ",.1f", "steps since the last write")
    write_rate: float | None = _figure("memory", ".1%", "of steps wrote")
    used_slots: float | None = _figure("reads", ".1f", "slots of a row were read lately")
    reading_steps: float | None = _figure("reads", ".1%", "of steps read something")
    declined_reads: float | None = _figure("reads", ".1%", "of steps had slots, but read none")
    read_distance: float | None = _figure("reads", ",.1f", "steps back to what was read")
    read_before: float | None = _figure("reads", ".1%", "of attention went to before the window")
    read_memories: float | None = _figure("reads", ",.1f", "different memories were read")
    read_change: float | None = _figure("reads", ".3f", "0: all read the same, 1: all differ")
    credited_slots: float | None = _figure("credit", ".2f", "slots of a row credited by a window")
    credit_norm: float | None = _figure("credit", ".2g", "norm of the gradient of each")
    credit_distance: float | None = _figure("credit", ",.1f", "steps back to what was credited")
    dropped_links: float | None = _figure("credit", ".1f", "links lost in a window")
    window_gradient: float | None = _figure("gradient", ".2g", "norm, from the window's own steps")
    credit_gradient: float | None = _figure("gradient", ".2g", "norm, from credit to earlier steps")
    skipped_updates: float | None = _figure("gradient", ".1%", "of updates skipped, not finite")
    learning_rate: float | None = _figure("gradient", ".2g", "of the optimiser")
    largest_h: float | None = _figure("scale", ".2f", "greatest |h|")
    h_growth: float | None = _figure("scale", ".2f", "times as large as it was earlier")
    input_scale: float | None = _figure("scale", ".2g", "largest input, root mean square")
    advice: Mapping[str, str] = field(default_factory=dict)

    def scalars(self) -> dict[str, float]:
        """Returns the figures that there are, by name, for a log."""
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.metadata}
        return {name: float(value) for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        lines = [f"{self.core}: {self.steps:,} steps, {self.updates:,} updates, {self.windows} windows noted"]
        last = ""
        for each in fields(self):
            value = getattr(self, each.name)
            if not each.metadata or value is None:
                continue
            group, meaning = each.metadata["group"], each.metadata["meaning"].format(slots=self.slots)
            text = _shown(value, each.metadata["form"])
            lines.append(f"{'' if group == last else group:<8} {each.name:<17} {text:>9}  {meaning}")
            last = group
        lines += ["", *(f"{name}: {line}" for name, line in self.advice.items())]
        if not self.advice:
            later = f"; reads and gradients are judged from {ENOUGH} windows on" if self.windows < ENOUGH else ""
            lines.append(f"Nothing known is wrong{later}.")
        return "\n".join(lines)


def _shown(value: float, form: str) -> str:
    """Returns a value as text of at most 9 characters."""
    text = format(value, form)
    return text if len(text) <= 9 else f"{value:.3g}"


class Facts(NamedTuple):
    """What a learner knows of itself, beside its stream and its windows.

    Attributes:
        settings: of the learner, `core` among them.
        steps: of the stream.
        updates: made.
        targets: whether any target ever arrived.
        skipped: updates that were.
        learning_rate: of the optimiser's first group.
        adam: whether the optimiser is Adam.
        finite: whether all parameters are.
        credited: slots that were credited in all.
        encodes: whether observations are encoded, so that their scale says nothing.
    """

    settings: Mapping[str, Any]
    steps: int
    updates: int
    targets: bool
    skipped: int
    learning_rate: float
    adam: bool
    finite: bool
    credited: int
    encodes: bool


def diagnosed(stream: Stream, history: WindowHistory, answers: Answers, facts: Facts) -> Diagnosis:
    """Returns the diagnosis of a learner.

    Args:
        stream: that is learnt from.
        history: of its windows.
        answers: to its latest targets.
        facts: what else is known.
    """
    figures: dict[str, Any] = {"learning_rate": facts.learning_rate, **answers.figures()}
    if facts.updates:
        figures["skipped_updates"] = facts.skipped / facts.updates
    numbers, slots = history.numbers(), None
    if numbers:
        figures |= _of_windows(numbers, encodes=facts.encodes)
    if isinstance(stream, SABStream):
        slots, held = stream.state.slots, held_figures(stream.state)
        figures |= held | {"largest_h": max(held["largest_h"], figures.get("largest_h", 0.0))}
        reads = history.reads()
        if reads is not None:
            figures |= reads.figures() | _of_credit(numbers, stream.rows)
    figures = {name: value for name, value in figures.items() if not math.isnan(value)}
    counted = {"core": facts.settings["core"], "steps": facts.steps, "updates": facts.updates}
    found = Diagnosis(**counted, windows=len(history), slots=slots, **figures)
    advice = dict(_problems(found, facts, stream))
    if not advice and answers.count >= MANY_ANSWERS:
        advice = dict(_guesses(found, facts))
    return replace(found, advice=advice)


def _of_windows(numbers: Sequence[Numbers], *, encodes: bool) -> dict[str, float]:
    """Returns the figures of windows that any core has."""
    half = len(numbers) // 2
    largest = [each.largest_h for each in numbers]
    found = {
        "window_gradient": _mean(each.window_gradient for each in numbers),
        "credit_gradient": _mean(each.credit_gradient for each in numbers),
        "largest_h": _greatest(largest),
        "h_growth": _ratio(_greatest(largest[half:]), _greatest(largest[:half])),
        "input_scale": None if encodes else _root_mean_square(each.input_scale for each in numbers),
    }
    return {name: value for name, value in found.items() if value is not None}


def _of_credit(numbers: Sequence[Numbers], rows: int) -> dict[str, float]:
    """Returns the figures of what windows credited."""
    count, amount = (sum(getattr(each, name) for each in numbers) for name in ("credited", "credit"))
    found = {
        "credited_slots": count / (rows * len(numbers)),
        "credit_norm": _ratio(amount, count),
        "credit_distance": _ratio(sum(each.credit_distance * each.credit for each in numbers if each.credit), amount),
        "dropped_links": sum(each.dropped_links for each in numbers) / len(numbers),
    }
    return {name: value for name, value in found.items() if value is not None}


def _problems(found: Diagnosis, facts: Facts, stream: Stream) -> Iterator[tuple[str, str]]:
    """Yields the name of each problem that the figures show, with a line of advice."""
    if not facts.targets and facts.steps >= facts.settings["update_every"]:
        yield "no target", f"no y in {facts.steps:,} steps. Pass it to learn_one where it is known."
    if not 0 < facts.learning_rate < math.inf:
        yield "learning rate", f"{facts.learning_rate} teaches nothing. Set one above 0, such as 0.001."
    elif facts.adam and facts.learning_rate >= LARGE_RATE:
        yield "learning rate", f"{facts.learning_rate:g} is too large for Adam. Use one such as 0.001."
    if not facts.finite:
        yield "parameters", "NaN or infinite. Make a new learner, with a smaller learning_rate."
        return  # what else there is to see follows from that
    yield from _problems_of_scale(found, facts)
    if isinstance(stream, SABStream):
        yield from _problems_of_memory(found, facts.steps, stream)
        if found.windows >= ENOUGH:
            yield from _problems_of_reads(found, facts, stream)


def _guesses(found: Diagnosis, facts: Facts) -> Iterator[tuple[str, str]]:
    """Yields advice for a learner that knows nothing of its answers, although nothing else is known to be wrong."""
    loss, least = found.loss or 0.0, found.constant_loss or 0.0
    if facts.updates >= MANY_UPDATES and 0 < GUESSED * least <= loss:
        slower = facts.settings["attention_rate"] < 1 and facts.settings["head_rate"] < 1
        if found.slots is None:
            remedy = "try another learning_rate"
        else:
            remedy = "let shorter delays come first" if slower else "try attention_rate=0.3, head_rate=0.3"
        yield "guessing", f"loss {loss:.3g}; {least:.3g} for one answer to all. Learn on, or {remedy}."


def _problems_of_scale(found: Diagnosis, facts: Facts) -> Iterator[tuple[str, str]]:
    slots = found.slots is not None
    if (found.skipped_updates or 0) > OVERFLOWED:
        remedy = "Use summary_gain=0 and credit_depth=1." if slots else "Use a smaller learning_rate."
        if facts.settings["loss"] == "squared_error":
            remedy = "Scale y and x to about 1."
        yield "overflow", f"{found.skipped_updates:.0%} of updates were skipped. {remedy}"
    if found.input_scale is not None:
        if found.input_scale > LARGE_INPUT:
            yield "inputs", f"one has a root mean square of {found.input_scale:.3g}. Scale all to about 1."
        elif found.input_scale < SMALL_INPUT:
            yield "inputs", f"all have a root mean square below {SMALL_INPUT}. Scale them to about 1."
    if (found.largest_h or 0) > (LARGE_H if slots else LARGE_OUTPUT):
        remedy = "reads add up. Use summary_gain=0." if slots else "use a smaller learning_rate."
        yield "large h", f"|h| reaches {found.largest_h:.3g}: {remedy}"


def _problems_of_memory(found: Diagnosis, steps: int, stream: SABStream) -> Iterator[tuple[str, str]]:
    since, write_every = found.steps_since_write or 0, stream.rules.write_every
    if not found.filled_slots:
        if found.windows >= ENOUGH and not found.write_rate:
            yield "never written", f"episodes are shorter than write_every={write_every}. Use write_every=1."
    elif since >= max(STILL, 2 * write_every) and 2 * since >= steps:
        yield "frozen", f"no write for {since:,.0f} steps. Use a lower novelty, or write='every'."
    elif _is_still(found, steps, write_every):
        count = f"{found.filled_slots:.0f} writes in {found.episode_steps:,.0f} steps"
        yield "frozen", f"{count}. Use a lower novelty, or write='every'."
    elif stream.rules.eviction not in {"oldest", "reservoir", "least_useful"} and _is_old(found, steps, write_every):
        yield "old slots", f"{found.held_age:,.0f} steps on average. If new ones count, use eviction='oldest'."


def _is_still(found: Diagnosis, steps: int, write_every: int) -> bool:
    """Whether hardly anything was written in a stream whose present episodes are most of it.

    As long as there are empty slots, each write has filled one. A long episode of which little is worth a slot, among
    others, is no problem.
    """
    filled, due = found.filled_slots or 0, (found.episode_steps or 0) / write_every
    endless = due >= STILL and 2 * (found.episode_steps or 0) >= steps
    return endless and filled < (found.slots or 0) and max(filled / due, found.write_rate or 0) < FEW


def _is_old(found: Diagnosis, steps: int, write_every: int) -> bool:
    """Whether a stream whose present episodes are most of it holds slots that are a quarter as old, or older.

    It does so if what was read once is never evicted, and nothing new is read.
    """
    age, length, slots = found.held_age or 0, found.episode_steps or 0, found.slots or 0
    return 2 * length >= steps and length >= MANY_TIMES * slots * write_every and 4 * age >= length


def _problems_of_reads(found: Diagnosis, facts: Facts, stream: SABStream) -> Iterator[tuple[str, str]]:
    if (found.declined_reads or 0) > DECLINED:
        yield "nothing read", "scores tie or decline. Lower learning_rate, or use write='novel'."
    elif found.read_change is not None and found.read_change < NO_CHANGE and (found.filled_slots or 0) >= 2:
        yield "same read", "same slots at all steps. Lower learning_rate, or change attention."
    if found.read_before and not facts.credited:
        if not stream.core.rules.reading.credit:
            yield "uncredited", f"core {found.core!r} never credits what it reads. Use core='sab'."
        elif stream.credit_depth == 0:
            yield "uncredited", "credit_depth=0: what is read is not credited. Use credit_depth=1."
    ratio = _ratio(found.credit_gradient or 0.0, found.window_gradient or 0.0)
    reading = stream.core.rules.reading
    # Where neither links nor reads add up, a task that is solved across a long delay has no other gradient.
    adds_up = stream.credit_depth != 1 or reading.gate or reading.gain != 0
    if ratio is not None and ratio > DWARFED and adds_up:
        remedy = "Use credit_depth=1." if stream.credit_depth != 1 else "Lower summary_gain."
        yield "credit", f"its gradient is {ratio:.3g} times the window's. {remedy}"


def _mean(values: Iterable[float]) -> float | None:
    """Returns the mean of the finite values; None without one."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _root_mean_square(values: Iterable[float]) -> float | None:
    square = _mean(value**2 for value in values)
    return None if square is None else math.sqrt(square)


def _greatest(values: Iterable[float]) -> float | None:
    """Returns the greatest value but NaN, which may be infinite; None without one."""
    return max((value for value in values if not math.isnan(value)), default=None)


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other and math.isfinite(other) else None
