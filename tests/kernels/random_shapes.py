"""Runs random shapes through the native kernel of another build: `make sanitize`, whose build stops at any bad access.

Usage: python -m tests.kernels.random_shapes FOLDER SHAPES
"""

from __future__ import annotations

import ctypes
import importlib.util
import random
import sys
from dataclasses import replace
from pathlib import Path

import torch

from sab_agents import OnlineLearner, RecurrentPPO
from sab_agents.kernels import SCORES, ScanArguments
from sab_agents.kernels.native_backend import extension, tape
from sab_agents.online.readout import Readout
from sab_agents.streaming import WRITES
from tests.core.test_one_step import random_case
from tests.core.test_scan_equals_reference import (
    MANY_SLOTS,
    by_native,
    fitting,
    random_plan,
    random_score,
    shapes_of,
    test_native_reads_many_slots_as_the_reference,
)
from tests.kernels.extension import with_instruction_set
from tests.online.test_native_agents import STREAMS
from tests.online.test_native_agents import Side as AgentSide
from tests.online.test_native_agents import stream as agent_stream
from tests.readings import random_reading
from tests.streaming.test_compiled_stream import Side, random_settings, window_of


def load(folder: Path) -> None:
    """Puts the extension under `folder` in the place of the installed one."""
    file = next(folder.glob("sab_agents/kernels/native_backend/_native*.so"))
    spec = importlib.util.spec_from_file_location("sab_agents.kernels.native_backend._native", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    installed = extension.native
    for user in list(sys.modules.values()):
        if vars(user).get("native") is installed:
            vars(user)["native"] = module


def guard_parts() -> None:
    """Forbids what lies between the parts of a buffer: the sanitizer alone sees only the ends of the whole."""
    forbid, allow = ctypes.CDLL(None).__asan_poison_memory_region, ctypes.CDLL(None).__asan_unpoison_memory_region
    forbid.argtypes = allow.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    within = tape.Layout.within

    def guarded(
        lies: tape.Layout, buffer: torch.Tensor, versions: tape.Array = ()
    ) -> tuple[tape.TapeParts, tape.SentParts]:
        allow(buffer.data_ptr(), buffer.nbytes)  # it may have been used with another layout
        for end, following in zip(lies.ends, [*lies.places[1:], lies.floats], strict=True):
            forbid(buffer.data_ptr() + 4 * end, 4 * (following - end))
        return within(lies, buffer, versions)

    vars(tape)["padded"] = lambda floats: (floats + 31) // 16 * 16
    type.__setattr__(tape.Layout, "within", guarded)


def run(seed: int) -> None:
    """One shape, forward and backward, split over threads as finely as it goes."""
    choose = random.Random(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(choose.randint(1, 3))
    T, B, H, A = choose.randint(1, 20), choose.randint(1, 20), choose.randint(1, 40), choose.randint(1, 40)
    inputs_size, held = choose.randint(1, 40), choose.randint(0, 20)
    plan = random_plan(choose, T, B, held, random_score(choose))
    shapes = shapes_of(T, B, inputs_size, H, A, held)
    inputs = ScanArguments(*fitting([torch.randn(shape, requires_grad=True) for shape in shapes], plan))
    outputs = by_native(inputs, plan)
    (outputs.output.sum() + outputs.c.sum()).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        assert torch.equal(by_native(inputs, plan).output, outputs.output)


def run_module(seed: int) -> None:
    """One step without gradient, then a sequence with it."""
    sab, state, rows = random_case(seed)
    steps = 1 + seed % 9
    x, start = torch.randn(steps, rows, sab.input_size), torch.rand(steps, rows) < 0.3
    with torch.no_grad():
        _, after = sab.step(x[0], state, start[0])
    output, after = sab(x, replace(after, memory=after.memory.requires_grad_()), start)
    (output.sum() + after.memory.sum()).backward()
    assert torch.isfinite(after.memory).all()


def run_stream(seed: int) -> None:
    """Some windows of a stream, learnt from or not."""
    rng, side = random.Random(seed), Side(seed, "native")
    for _ in range(4):
        found = side.learn(*window_of(side, rng))
        assert torch.isfinite(found["output"]).all()


def run_agent(seed: int) -> None:
    """A streaming agent's core, and a readout behind it."""
    learner = AgentSide(sorted(STREAMS)[seed % len(STREAMS)], "native")
    found = learner.learn(*agent_stream(24))
    assert all(torch.isfinite(each).all() for each in found)
    readout = Readout(1 + seed % 37, 1 + seed % 23, 1 + seed % 5, sparsity=0.5)
    readout.step(torch.randn(1 + seed % 37))
    assert torch.isfinite(readout.backward(torch.randn(1 + seed % 5))).all()


def run_learner(seed: int) -> None:
    """A learner whose steps wait for the end of a window, in streams of every rule."""
    rng, rows = random.Random(seed), 1 + seed % 3
    settings = random_settings(rng)
    hidden_size, bptt_steps = rng.randint(1, 20), rng.randint(1, 9)
    learner = OnlineLearner(
        3,
        4,
        rows=rows,
        hidden_size=hidden_size,
        bptt_steps=bptt_steps,
        capacity=rng.randint(4, 20),
        top_k=2,
        **settings,
        **random_reading(seed),
    )
    for step in range(4 * bptt_steps + seed % 7):
        starts = torch.rand(rows) < 0.1
        learner.learn_many(torch.randn(rows, 3), torch.randint(0, 4, (rows,)) if step % 3 else None, starts)
        if step % 11 == 0:
            assert torch.isfinite(torch.as_tensor(learner.predict_many(torch.randn(rows, 3)))).all()


def run_policy(seed: int) -> None:
    """A rollout of a policy and what it learns from it, actor and critic at once."""
    core = {**random_reading(seed // 20), "write": random.Random(seed).choice(WRITES)}
    sizes = {"lstm_hidden_size": 1 + seed % 19, "net_arch": [], "core_kwargs": core}
    model = RecurrentPPO("MlpSabPolicy", "CartPole-v1", n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=sizes)
    model.learn(32)
    assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())


def main() -> None:
    load(Path(sys.argv[1]))
    guard_parts()
    extension.WORK_PER_THREAD = 1
    for score in SCORES:  # a compiler may break what only a sanitizer's build contains
        for gain, held in MANY_SLOTS:
            test_native_reads_many_slots_as_the_reference(score, gain, held)
    names = ["baseline", "avx2", "avx512"]
    names = names[: names.index(extension.native.instruction_set()) + 1]
    for seed in range(int(sys.argv[2])):
        with with_instruction_set(names[seed % len(names)]):
            run(seed)
            run_module(seed)
            run_stream(seed)
            run_agent(seed)
            run_learner(seed)
            if seed % 20 == 0:
                run_policy(seed)
    print(f"{sys.argv[2]} random shapes without a report: {', '.join(names)}")


if __name__ == "__main__":
    main()
