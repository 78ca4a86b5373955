"""Random calls of everything public, right and wrong ones: each ends in a result or in an error of one sentence.

`make sanitize` runs them on a build of the native kernel that stops at any bad access; `test_random_calls.py` runs some
on the installed one. Usage: python -m tests.kernels.random_calls FOLDER CALLS
"""

from __future__ import annotations

import copy
import io
import pickle
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from sab_agents import OnlineLearner, RecurrentPPO, StreamAC, build_core
from sab_agents.core import CORES, Core
from sab_agents.streaming import EVICTIONS, WRITES, Stream, make_stream

EXPECTED = (ValueError, TypeError, RuntimeError, NotImplementedError, MemoryError)
"""What a wrong call may raise. An AttributeError, an IndexError or a KeyError comes from inside and says nothing."""

LONGEST = 900
"""Characters of an error's text, that name what was passed and what to pass."""

WRONG: tuple[Any, ...] = (0, -1, 2**40, 1.5, float("nan"), float("inf"), None, "3", True, [], np.float32(2.5))


class Calls:
    """Draws objects and calls.

    Args:
        seed: of all that is drawn.

    Attributes:
        outcomes: how many calls ended how, by their name.
    """

    def __init__(self, seed: int) -> None:
        self.rng, self.outcomes = random.Random(seed), Counter[str]()
        torch.manual_seed(seed)
        self.objects: list[Any] = []

    def run(self, count: int) -> None:
        """Makes `count` calls."""
        calls = [self.make, self.forward, self.step, self.stream_call, self.learner_call, self.agent_call, self.copied]
        for _ in range(count):
            self.one(self.rng.choice(calls))

    def one(self, call: Callable[[], str]) -> None:
        """Makes a call, and looks at how it ends."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.outcomes[call()] += 1
        except EXPECTED as error:
            text = str(error)
            assert text, f"{call.__name__}: an error without a text"
            assert len(text) <= LONGEST, f"{call.__name__}: an error of {len(text)} characters: {text}"
            self.outcomes[f"{call.__name__}: {type(error).__name__}"] += 1

    # ---- what is drawn

    def number(self, *right: Any) -> Any:
        """One of the right values, seldom a wrong one."""
        return self.rng.choice(right) if self.rng.random() < 0.97 else self.rng.choice(WRONG)

    def tensor(self, *shape: int) -> Any:
        """A tensor of this shape, seldom of another shape, dtype or layout, or with numbers that are none."""
        rng = self.rng
        if rng.random() < 0.1:
            place = rng.randrange(len(shape))
            shape = (*shape[:place], rng.choice((0, 1, 2, 50)), *shape[place + 1 :])
        if rng.random() < 0.03:
            shape = shape[1:]
        x = torch.randn(shape)
        draw = rng.random()
        if draw < 0.03:
            x = x.to(rng.choice((torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)))
        elif draw < 0.06 and x.numel():
            x.view(-1)[rng.randrange(x.numel())] = rng.choice((float("nan"), float("inf"), 1e38, -1e38))
        elif draw < 0.12:
            x = torch.stack([x, x], dim=-1)[..., 0]  # not contiguous
        elif draw < 0.15:
            x.requires_grad_()
        elif draw < 0.17:
            x = x.to("meta")
        elif draw < 0.18:
            return x.tolist()
        return x

    def flags(self, *shape: int) -> Any:
        """Episode starts."""
        draw = self.rng.random()
        if draw < 0.5:
            return None
        return torch.rand(shape) < 0.2 if draw < 0.95 else self.tensor(*shape)

    def held(self, kind: type) -> Any:
        """An object of a kind that was made before."""
        found = [each for each in self.objects if isinstance(each, kind)]
        if not found:
            raise ValueError("nothing of this kind was made yet")
        return self.rng.choice(found)

    def keep(self, made: Any) -> None:
        self.objects.append(made)
        if len(self.objects) > 40:
            self.objects.pop(self.rng.randrange(len(self.objects)))

    def settings(self) -> dict[str, Any]:
        """Settings of a SAB."""
        every = {
            "top_k": self.number(1, 2, 5),
            "write_every": self.number(1, 2),
            "bptt_steps": self.number(1, 3, 6),
            "capacity": self.number(4, 7, 20),
            "attention": self.number("mlp", "dot"),
            "attention_size": self.number(1, 5, 17),
            "recipe": self.number("default", "paper"),
            "summary_gain": self.number(0.0, 0.5, 1.0, "gate"),
            "age": self.number(False, True),
            "floor": self.number(0.0, 0.1, 3),
            "sharpness": self.number(0.0, 1.0, 100.0),
            "age_scale": self.number(1, 7, 10**6),
            "stored": self.number("output", "cell"),
        }
        return {name: value for name, value in every.items() if self.rng.random() < 0.5}

    # ---- the calls

    def make(self) -> str:
        """Makes a core, a stream, a learner or an agent."""
        rng, what = (
            self.rng,
            self.rng.choice(("core", "core", "core", "stream", "stream", "learner", "learner", "agent")),
        )
        name = rng.choice(sorted(CORES))
        settings = self.settings() if name.startswith("sab") else {}
        if what == "core":
            made: Any = build_core(name, self.number(1, 3, 9), self.number(1, 5, 18), **settings)
        elif what == "stream":
            options = {"eviction": self.number(*EVICTIONS), "write": self.number(*WRITES)}
            core: Any = self.held(Core)
            made = make_stream(core, self.number(1, 2, 3), **(options if "SAB" in type(core).__name__ else {}))
        elif what == "learner":
            sizes = {"rows": self.number(1, 1, 3), "hidden_size": self.number(4, 9), "update_every": self.number(1, 4)}
            made = OnlineLearner(self.number(1, 3), self.number(2, 4), core=name, **sizes, **settings)
        elif rng.random() < 0.5:
            made = StreamAC(self.number("MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"), "CartPole-v1", seed=0)
        else:
            sizes = {"n_steps": self.number(8, 16), "batch_size": 8, "n_epochs": 1}
            kwargs = {"lstm_hidden_size": self.number(4, 9), "net_arch": []}
            made = RecurrentPPO(
                self.number("MlpSabPolicy", "MlpLstmPolicy"), "CartPole-v1", policy_kwargs=kwargs, device="cpu", **sizes
            )
        self.keep(made)
        return f"make {what}"

    def forward(self) -> str:
        """A whole sequence, forward and mostly backward."""
        core: Any = self.held(Core)
        T, B = self.rng.choice((1, 2, 7)), self.rng.choice((1, 2, 5))
        state = core.initial_state(self.number(B)) if self.rng.random() < 0.5 else None
        output, state = core(self.tensor(T, B, core.input_size), state, self.flags(T, B))
        if self.rng.random() < 0.7 and output.requires_grad and output.device.type == "cpu":
            output.sum().backward()
        return "forward"

    def step(self) -> str:
        """A few steps without gradient, at times with the state of another core."""
        core: Any = self.held(Core)
        B = self.rng.choice((1, 2, 5))
        other: Any = core if self.rng.random() < 0.9 else self.held(Core)
        state = other.initial_state(B)
        with torch.no_grad():
            for _ in range(3):
                _, state = core.step(self.tensor(B, core.input_size), state, self.flags(B))
        return "step"

    def stream_call(self) -> str:
        """Steps of a stream, its window, credit, state and refresh, in any order."""
        stream: Any = self.held(Stream)
        B, rng = stream.rows, self.rng
        shape = stream.observation_shape
        for _ in range(rng.randrange(5)):
            stream.step(self.tensor(B, *shape), self.flags(B))
        plain = "credit", "advance", "refresh", "close", "reset"
        name = rng.choice(("window", "replay", "step_and_replay", "load", *plain))
        if name == "replay":
            replay = stream.replay()
            replay.backward(self.tensor(*replay.outputs.shape))
        elif name == "window":
            stream.window().sum().backward()
        elif name == "step_and_replay":
            output = stream.step_and_replay(self.tensor(B, *shape), self.flags(B))
            stream.backward(self.tensor(*output.shape))
        elif name == "load":
            other: Any = stream if rng.random() < 0.7 else self.held(Stream)
            stream.load_state_dict(other.state_dict())
        else:
            getattr(stream, name)()
        return f"stream {name}"

    def learner_call(self) -> str:
        """Learning, predicting, saving and loading."""
        learner: Any = self.held(OnlineLearner)
        rng, rows = self.rng, learner.rows
        name = rng.choice(("learn", "learn", "learn", "predict", "save", "report", "load"))
        inputs = learner.stream.observation_shape
        if name == "learn":
            y = torch.randint(0, 4, (rows,)) if rng.random() < 0.9 else self.tensor(rows)
            mask = None if rng.random() < 0.7 else torch.rand(rows) < 0.5
            learner.learn_many(self.tensor(rows, *inputs), y if rng.random() < 0.8 else None, self.flags(rows), mask)
        elif name == "predict":
            learner.predict_many(self.tensor(rows, *inputs), self.flags(rows))
        elif name == "save":
            with tempfile.TemporaryDirectory() as folder:
                learner.save(Path(folder) / "learner.zip")
                self.keep(OnlineLearner.load(Path(folder) / "learner.zip"))
        elif name == "report":
            str(learner.credit_report())
        else:
            other: Any = self.held(OnlineLearner)
            learner.load_state_dict(other.state_dict())
        return f"learner {name}"

    def agent_call(self) -> str:
        """A few steps of learning or acting of an agent; seldom, since these take longest."""
        if self.rng.random() < 0.8:
            return self.learner_call()
        agent: Any = self.held(StreamAC if self.rng.random() < 0.5 else RecurrentPPO)
        name = self.rng.choice(("learn", "predict", "save"))
        if name == "learn":
            agent.learn(self.number(1, 16))
        elif name == "predict":
            rows = self.rng.choice((1, 3))
            observation = np.asarray(self.rng.choice((np.zeros, np.ones))((rows, self.number(4)), dtype=np.float32))
            _, state = agent.predict(observation)
            agent.predict(observation, state, np.zeros(rows, dtype=bool))
        else:
            with tempfile.TemporaryDirectory() as folder:
                agent.save(Path(folder) / "agent.zip")
                self.keep(type(agent).load(Path(folder) / "agent.zip", env=gym.make("CartPole-v1")))
        return f"agent {name}"

    def copied(self) -> str:
        """A copy of anything, which takes the place of the original or stands beside it."""
        original = self.held(object)
        if isinstance(original, StreamAC | RecurrentPPO):
            return "copy: not of agents, which hold environments"
        how = self.rng.choice(("copy", "pickle", "torch"))
        if how == "copy":
            made = copy.deepcopy(original)
        elif how == "pickle":
            made = pickle.loads(pickle.dumps(original))
        else:
            file = io.BytesIO()
            torch.save(original, file)
            file.seek(0)
            made = torch.load(file, weights_only=False)
        if isinstance(made, Core) and self.rng.random() < 0.2:
            made = made.to(self.rng.choice((torch.float64, torch.float32)))
        self.keep(made)
        return f"copy by {how}"


def main() -> None:
    from tests.kernels.random_shapes import guard_parts, load  # noqa: PLC0415

    load(Path(sys.argv[1]))
    guard_parts()
    calls = Calls(0)
    calls.run(int(sys.argv[2]))
    for name, count in sorted(calls.outcomes.items()):
        print(f"{count:6d} {name}")
    print(f"{sys.argv[2]} random calls without a report")


if __name__ == "__main__":
    main()
