"""Cases of whole sequences: outputs, final state and all gradients of every core.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sab_agents import LSTM, SAB, LSTMAttention, SoftmaxSAB, Transformer, UncreditedSAB
from tests.golden.case import BACKENDS, Case
from tests.golden.internals import reference_sab
from tests.golden.record import Groups

SAB_SEEDS = 20
CORE_SEEDS = 3
SAB_BACKENDS = {**BACKENDS, "reference64": ("torch", torch.float64)}
RTOL = {torch.float32: 1e-4, torch.float64: 1e-9}

Make = Callable[..., Any]


def cases() -> Iterator[Case]:
    """Yields the cases of all cores."""
    for backend, (kernel, dtype) in SAB_BACKENDS.items():
        make: Make = reference_sab if backend.startswith("reference") else SAB
        for attention in ("mlp", "dot"):
            for seed in range(SAB_SEEDS):
                compute = partial(sab_sequence, make, dtype, attention, seed)
                yield Case(f"sab/{backend}/{attention}/{seed:02}", kernel, compute, RTOL[dtype])
    for backend, (kernel, dtype) in BACKENDS.items():
        for name in ("LSTM", "LSTMAttention", "Transformer", "SoftmaxSAB", "UncreditedSAB"):
            for seed in range(CORE_SEEDS):
                compute = partial(core_sequence, name, dtype, seed)
                yield Case(f"cores/{backend}/{name}/{seed}", kernel, compute, RTOL[dtype])


def sab_settings(choose: random.Random, attention: str) -> dict[str, Any]:
    """Returns settings of a SAB; every other one has a bounded memory."""
    return {
        "attention": attention,
        "attention_size": choose.randint(2, 6),
        "top_k": choose.choice([1, 2, 2, 3, 3, 4]),
        "write_every": choose.randint(1, 3),
        "bptt_steps": choose.randint(1, 5),
        "capacity": choose.choice([None, choose.randint(2, 5)]),
        "summary_gain": choose.choice([1.0, 1.0, 0.5]),
        "recipe": "paper",
    }


def sab_sequence(make: Make, dtype: torch.dtype, attention: str, seed: int) -> Groups:
    """Runs a SAB whose settings follow from the seed, and adds what it reads."""
    choose = random.Random(seed)
    settings = sab_settings(choose, attention)
    core = drawn(make(choose.randint(2, 4), choose.choice([5, 8, 16, 19, 33]), **settings), seed).to(dtype)
    x, before, start = arguments(core, dtype, choose, seed)
    found = sequence(core, x, before, start, seed, by_parameter=True)
    with torch.no_grad():
        log = core(x, before, start, return_attention=True)[2]
    found["read weights"], found["read steps"] = log.weights, log.steps
    return found


def core_sequence(name: str, dtype: torch.dtype, seed: int) -> Groups:
    """Runs one of the other cores; its settings follow from the seed."""
    choose = random.Random(100 + seed)
    core: Any
    if name == "LSTM":
        core = LSTM(3, 6, bptt_steps=(None, 3, 2)[seed], layers=(1, 1, 2)[seed])
    elif name == "LSTMAttention":
        core = LSTMAttention(3, 6, attention_size=(None, 4, 5)[seed])
    elif name == "Transformer":
        core = Transformer(3, 8, layers=2, heads=2, context=(None, 3, 5)[seed])
    else:
        settings = sab_settings(choose, ("mlp", "dot")[seed % 2])
        if name == "SoftmaxSAB":
            del settings["top_k"]
            core = SoftmaxSAB(3, 6, temperature=(1.0, 0.5, 2.0)[seed], **settings)
        else:
            core = UncreditedSAB(3, 6, **settings)
    core = drawn(core, seed).to(dtype)
    return sequence(core, *arguments(core, dtype, choose, seed), seed)


def drawn(core: Any, seed: int) -> Any:
    """Draws a core's parameters with numpy, whose bits are the same on every machine, unlike torch's."""
    rng = np.random.default_rng(500 + seed)
    with torch.no_grad():
        for parameter in core.parameters():
            uniform = rng.uniform(-1, 1, tuple(parameter.shape)) / np.sqrt(parameter.shape[-1])
            parameter.copy_(torch.from_numpy(uniform.astype(np.float32)))
    return core


def arguments(core: Any, dtype: torch.dtype, choose: random.Random, seed: int) -> tuple[Tensor, Any, Tensor | None]:
    """Returns inputs (T, B, I), a state that earlier steps have left, and episode starts (T, B) or None."""
    rng = np.random.default_rng(seed)
    T, B = choose.randint(6, 14), choose.randint(1, 4)
    x, earlier = (numbers(rng, (steps, B, core.input_size), dtype) for steps in (T, choose.randint(1, 6)))
    start = None if seed % 4 == 3 else torch.from_numpy(rng.random((T, B)) < 0.15)
    with torch.no_grad():
        state = core(earlier)[1].clone()
    for tensor in real_tensors(state).values():
        tensor.requires_grad_()
    return x.requires_grad_(), state, start


def sequence(
    core: nn.Module, x: Tensor, before: Any, start: Tensor | None, seed: int, *, by_parameter: bool = False
) -> Groups:
    """Returns outputs, final state, all gradients of a random loss, and the outputs of single steps without gradient.

    A group of gradients is that of a parameter with `by_parameter`, else that of a module.
    """
    rng = np.random.default_rng(1000 + seed)
    output, after = core(x, before, start)
    results = [output, *real_tensors(after).values()]
    loss = torch.stack([(each * numbers(rng, each.shape, each.dtype)).sum() for each in results]).sum()
    sources = {"x": [x], "state": list(real_tensors(before).values())}
    for name, parameter in core.named_parameters():
        sources.setdefault(name if by_parameter else name.rpartition(".")[0], []).append(parameter)
    gradients = iter(
        torch.autograd.grad(loss, [each for part in sources.values() for each in part], materialize_grads=True)
    )
    found: Groups = {"output": output, "state": list(real_tensors(after).values())}
    found["state integers"] = [each for each in tensors_of(after).values() if not each.is_floating_point()]
    found |= {f"gradient {name}": [next(gradients) for _ in part] for name, part in sources.items()}
    found["steps"] = single_steps(core, x, before, start)
    return found


@torch.no_grad()
def single_steps(core: Any, x: Tensor, before: Any, start: Tensor | None) -> list[Tensor]:
    """Returns what `step` returns for each step in turn."""
    state, found = before.detach().clone(), []
    for t in range(len(x)):
        output, state = core.step(x[t], state, None if start is None else start[t])
        found.append(output)
    return found


def tensors_of(state: Any) -> dict[str, Tensor]:
    """Returns a state's tensors by name."""
    return {field.name: getattr(state, field.name) for field in fields(state)}


def real_tensors(state: Any) -> dict[str, Tensor]:
    """Returns a state's floating-point tensors by name."""
    return {name: each for name, each in tensors_of(state).items() if each.is_floating_point()}


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Returns normal numbers, the same in every dtype."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(dtype)
