"""The endless stream of recall: when cues and questions come, what is asked, and what can be known without a memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from sab_agents.envs.supervised.recall import RecallStream


class Round(NamedTuple):
    """What one row showed between two questions: its symbols, the steps between these and the question, the answer."""

    symbols: list[int]
    gaps: list[int]
    answer: int
    marks: list[bool]


def rounds_of(stream: RecallStream, steps: int) -> list[list[Round]]:
    """Reads each row's rounds from the inputs alone; questions that the stream does not ask are left out."""
    rounds: list[list[Round]] = [[] for _ in range(stream.rows)]
    events: list[list[tuple[int, int, bool]]] = [[] for _ in range(stream.rows)]
    for time in range(steps):
        step = stream.step()
        for row, x in enumerate(step.x):
            cues = np.flatnonzero(x[: stream.symbols])
            question = x[stream.symbols] == 1
            noise = np.flatnonzero(x[stream.symbols + 1 :])
            assert len(cues) + question + len(noise) == 1  # without noise exactly one channel is on
            if len(cues):
                events[row].append((time, int(cues[0]), bool(step.episode_start[row])))
            else:
                assert not step.episode_start[row]
            if step.asked[row]:
                assert question
                times = [when for when, _, _ in events[row]]
                rounds[row].append(
                    Round(
                        [symbol for _, symbol, _ in events[row]],
                        [after - before for before, after in zip(times, [*times[1:], time], strict=True)],
                        int(step.y[row]),
                        [mark for *_, mark in events[row]],
                    )
                )
            if question:
                events[row] = []
    return rounds


def test_without_jitter_every_round_has_one_cue_and_the_same_delay() -> None:
    for row in rounds_of(RecallStream(5, rows=3, symbols=4, distractors=2), 120):
        assert len(row) >= 18
        for one in row:
            assert (one.gaps, one.marks) == ([5], [True])
            assert one.symbols == [one.answer]


@pytest.mark.parametrize("asked", [None, "newest", "oldest"])
def test_starts_are_said_at_the_first_cue_of_each_round_or_never(asked: Any) -> None:
    for says_starts in (True, False):
        stream = RecallStream(4, rows=5, says_starts=says_starts, asked=asked, jitter=0.5)
        marks = [one.marks for row in rounds_of(stream, 300) for one in row]
        assert all(mark == [says_starts] + [False] * (len(mark) - 1) for mark in marks)


@pytest.mark.parametrize(
    ("delay", "jitter", "expected"),
    [
        (10, 0.25, range(8, 13)),
        (40, 0.25, range(30, 51)),
        (100, 0.29, range(71, 130)),
        (1, 0.9, [1]),
        (3, 0.99, [1, 2, 3, 4, 5]),
    ],
)
def test_the_delay_of_each_round_varies_evenly_within_the_jitter(delay: int, jitter: float, expected: Any) -> None:
    stream = RecallStream(delay, rows=60, jitter=jitter)
    seen = np.array([one.gaps[0] for row in rounds_of(stream, 40 * (delay + 1)) for one in row])
    values, counts = np.unique(seen, return_counts=True)
    assert values.tolist() == list(expected)
    even = len(seen) / len(values)
    assert (abs(counts - even) < 5 * even**0.5 + 1).all()


@pytest.mark.parametrize(("delay", "least"), [(40, 1), (100, 25), (7, 7)])
def test_delays_from_the_least_on_are_drawn_evenly_on_a_logarithmic_scale(delay: int, least: int) -> None:
    stream = RecallStream(delay, rows=2000, min_delay=least)
    drawn = stream.end  # by the first rounds of all rows, of which short ones are no more than long ones
    assert drawn.min() == least
    assert drawn.max() == delay
    # Of delay d a share of log((d + 1) / d), of those that there are.
    for d in range(least, delay + 1, max(1, (delay - least) // 5)):
        expected = np.log((d + 1) / least) / np.log((delay + 1) / least)
        assert (drawn <= d).mean() == pytest.approx(expected, abs=0.05)
    few = RecallStream(delay, rows=100, min_delay=least)
    gaps = [one.gaps[0] for row in rounds_of(few, 5 * delay) for one in row]
    assert least <= min(gaps) <= max(gaps) <= delay
    assert len(set(gaps)) > (delay - least) / 2


@pytest.mark.parametrize("asked", ["newest", "oldest"])
def test_the_newest_or_the_oldest_of_two_cues_is_asked(asked: Any) -> None:
    stream = RecallStream(6, rows=50, symbols=4, asked=asked, says_starts=False)
    rounds = [one for row in rounds_of(stream, 1000) for one in row]
    assert len(rounds) > 4000
    for one in rounds:
        assert len(one.symbols) == 2
        assert one.answer == one.symbols[-1 if asked == "newest" else 0]
        assert one.gaps[1] == 6
    gaps = np.bincount([one.gaps[0] for one in rounds], minlength=7) / len(rounds)
    np.testing.assert_allclose(gaps[1:], 1 / 6, atol=0.03)
    other = [one.answer == one.symbols[0 if asked == "newest" else -1] for one in rounds]
    assert np.mean(other) == pytest.approx(1 / 4, abs=0.03)  # the cues are independent


@pytest.mark.parametrize(
    "settings", [{}, {"jitter": 0.3, "noise": 1.0}, {"asked": "newest"}, {"asked": "oldest", "jitter": 0.5}]
)
@pytest.mark.parametrize("says_starts", [True, False])
def test_an_oracle_without_starts_is_always_right_and_the_question_alone_says_nothing(
    settings: dict[str, Any], says_starts: bool
) -> None:
    """The oracle counts cues since the last question, which it sees in the inputs."""
    stream = RecallStream(7, rows=20, symbols=5, says_starts=says_starts, seed=3, **settings)
    kept, answered = np.full(20, -1), np.ones(20, np.bool_)
    right, answers, questions = [], [], []
    for _ in range(3000):
        step = stream.step()
        cue = step.x[:, :5].any(axis=1)
        kept = np.where(cue & (answered | (settings.get("asked") != "oldest")), step.x[:, :5].argmax(axis=1), kept)
        answered = np.where(cue, False, answered) | (step.x[:, 5] == 1)
        right += (kept == step.y)[step.asked].tolist()
        answers += step.y[step.asked].tolist()
        questions += step.x[step.asked].tolist()
    assert all(right)
    assert len(right) > 2500
    assert len({tuple(question) for question in questions}) == 1
    assert np.bincount(answers).max() / len(answers) == pytest.approx(stream.memoryless, abs=0.03)


def test_a_row_that_begins_inside_a_round_is_not_asked_for_what_it_never_saw() -> None:
    stream = RecallStream(50, rows=200, asked="oldest", jitter=0.2)
    began = np.zeros(200, np.bool_)
    position = stream.position.copy()
    assert position[0] == 0
    assert len(np.unique(position)) > 20
    for time in range(300):
        step = stream.step()
        began |= step.episode_start
        assert (began | ~step.asked).all()
        assert time or (step.episode_start == (position == 0)).all()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"jitter": 1.0}, ValueError, "jitter must be at least 0 and below 1, but is 1.0"),
        ({"jitter": float("nan")}, ValueError, "jitter must be at least 0 and below 1, but is nan"),
        ({"min_delay": 6}, ValueError, "min_delay must be at most delay, without jitter, but is 6, with a delay of 5"),
        ({"min_delay": 2, "jitter": 0.5}, ValueError, "min_delay must be at most delay, without jitter, but is 2"),
        ({"min_delay": 0}, ValueError, "min_delay must be at least 1, but is 0"),
        ({"noise": -1.0}, ValueError, "noise must be at least 0"),
        ({"asked": "latest"}, ValueError, "asked must be one of newest, oldest, but is 'latest'"),
        ({"says_starts": "no"}, TypeError, "says_starts must be a bool, but is 'no'"),
        ({"delay": 0}, ValueError, "delay must be at least 1, but is 0"),
    ],
)
def test_a_setting_out_of_range_is_an_error(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"RecallStream: {message}"):
        RecallStream(**{"delay": 5, **settings})
