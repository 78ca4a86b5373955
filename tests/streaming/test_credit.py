"""The streamed gradient equals that of a graph in which nothing was replayed (section 4 of the mathematics)."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents import SAB
from sab_agents.streaming import SABStream
from tests.readings import random_reading
from tests.selection import first, slow
from tests.streaming.by_hand import Row
from tests.streaming.rules import rules

OBSERVED = 3


class Case:
    """A random network and random streams."""

    def __init__(
        self,
        seed: int,
        windows: int,
        *,
        capacity: int | None = None,
        steps: int | None = None,
        every: int | None = None,
        aligned: bool = False,
        **settings: Any,
    ) -> None:
        rng = random.Random(seed)
        torch.manual_seed(seed)
        self.steps = steps or rng.choice([1, 2, 3, 4])
        self.window = self.steps * rng.choice([1, 2])
        self.windows = windows
        self.rows = rng.choice([1, 2, 3])
        T = self.window * windows
        self.sab = SAB(
            2,
            rng.choice([3, 4]),
            top_k=rng.choice([1, 2, 4]),
            bptt_steps=self.steps,
            write_every=every or rng.choice([1, 2]),
            capacity=T if capacity is None else capacity,
            attention=rng.choice(["mlp", "dot"]),
            attention_size=3,
            **random_reading(seed),
            dtype=torch.float64,
        )
        for parameter in self.sab.parameters():
            nn.init.uniform_(parameter, -0.8, 0.8)
        self.encoder = nn.Sequential(nn.Linear(OBSERVED, 2, dtype=torch.float64), nn.Tanh())
        self.observation = torch.randn(T, self.rows, OBSERVED, dtype=torch.float64)
        self.start = torch.rand(T, self.rows) < 1 / (5 * self.steps)
        if aligned:  # else later windows begin inside a segment, which cuts it there
            self.start[torch.arange(T) % self.steps != 0] = False
        self.weights = torch.randn(T, self.rows, 2 * self.sab.hidden_size, dtype=torch.float64)
        settings = rules("oldest", "every") | settings
        self.stream = SABStream(self.sab, self.rows, encoder=self.encoder, observation_shape=(OBSERVED,), **settings)
        self.write_slot = torch.empty(T, self.rows, dtype=torch.int64)

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.sab.parameters(), *self.encoder.parameters()]

    def streamed(self) -> tuple[list[Tensor], Tensor, int]:
        """Gradient of every parameter, all outputs, and the number of dropped links."""
        outputs, dropped = [], 0
        for begin in range(0, self.window * self.windows, self.window):
            taken = [self.stream.step(self.observation[t], self.start[t]) for t in range(begin, begin + self.window)]
            window = self.stream.window()
            torch.testing.assert_close(window, torch.stack(taken), rtol=1e-10, atol=1e-12)
            (window * self.weights[begin : begin + self.window]).sum().backward()  # type: ignore[no-untyped-call]
            dropped += self.stream.credit().dropped
            self.write_slot[begin : begin + self.window] = self.stream._window.stacked("write_slot")
            self.stream.advance()
            outputs.append(window.detach())
        return self.gradients(), torch.cat(outputs), dropped

    def gradients(self) -> list[Tensor]:
        found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        return found

    def by_hand(self, depth: int | None) -> tuple[list[Tensor], Tensor]:
        """The same from a plain graph."""
        bounds = [number * self.window for number in range(self.windows + 1)]
        loss = torch.zeros((), dtype=torch.float64)
        columns = []
        for b in range(self.rows):
            starts, writes = self.start[:, b].tolist(), self.write_slot[:, b].tolist()
            row = Row(self.sab, self.encoder, self.observation[:, b], starts, writes, bounds, depth)
            outputs = torch.cat([row.outputs(number) for number in range(self.windows)])
            loss = loss + (outputs * self.weights[:, b]).sum()
            columns.append(outputs.detach())
        loss.backward()  # type: ignore[no-untyped-call]
        return self.gradients(), torch.stack(columns, dim=1)


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    scale = max(float(gradient.abs().max()) for gradient in expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("seed", first(3, range(8)))
def test_with_all_links_it_is_the_gradient_of_the_whole_sequence(seed: int) -> None:
    case = Case(seed, windows=25, aligned=True, credit_depth=None)
    found, outputs, dropped = case.streamed()
    output, _ = case.sab(
        case.encoder(case.observation.flatten(0, 1)).view(*case.observation.shape[:2], -1), None, case.start
    )
    torch.testing.assert_close(outputs, output.detach(), rtol=1e-10, atol=1e-12)
    (output * case.weights).sum().backward()
    assert_equal(found, case.gradients())
    assert dropped == 0


@pytest.mark.parametrize("depth", [0, 1, 2, None])
@pytest.mark.parametrize("seed", first(3, range(8)))
def test_at_every_depth_it_has_the_paths_of_so_many_links(seed: int, depth: int | None) -> None:
    case = Case(100 + seed, windows=10, credit_depth=depth)
    found, outputs, _ = case.streamed()
    expected, values = case.by_hand(depth)
    torch.testing.assert_close(outputs, values, rtol=1e-9, atol=1e-12)
    assert_equal(found, expected)


@pytest.mark.parametrize("depth", first(1, [None, 1, 2]))
@pytest.mark.parametrize(
    ("eviction", "write"),
    [
        ("oldest", "every"),
        slow("least_used", "every"),
        ("least_credited", "novel"),
        ("least_used", "refresh"),
        slow("most_redundant", "every"),
        ("reservoir", "every"),
        slow("reservoir", "novel"),
    ],
)
def test_with_evictions_exactly_the_lost_links_are_cut(eviction: str, write: str, depth: int | None) -> None:
    lost = 0
    windows = 25 if (eviction, write) == ("reservoir", "novel") else 15
    for seed in range(3):
        case = Case(200 + seed, windows=windows, capacity=3 + seed, credit_depth=depth, **rules(eviction, write, 0.3))
        found, outputs, dropped = case.streamed()
        expected, values = case.by_hand(depth)
        torch.testing.assert_close(outputs, values, rtol=1e-9, atol=1e-12)
        assert_equal(found, expected)
        lost += dropped
    assert (lost > 0) == (depth != 1)


@pytest.mark.parametrize("seed", range(4))
def test_a_piece_that_writes_over_its_own_slots_reads_what_was_there(seed: int) -> None:
    case = Case(300 + seed, windows=6, capacity=2, steps=6, every=1, credit_depth=None)
    found, outputs, _ = case.streamed()
    expected, values = case.by_hand(None)
    torch.testing.assert_close(outputs, values, rtol=1e-9, atol=1e-12)
    assert_equal(found, expected)
