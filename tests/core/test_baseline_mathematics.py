"""Each baseline against an independent calculation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents.core.lstm import LSTM, LSTMState
from sab_agents.core.lstm_attention import LSTMAttention
from sab_agents.core.transformer import Transformer
from sab_agents.kernels import forced_kernel
from tests.core.baseline_cases import (
    F64,
    B,
    Builder,
    H,
    I,
    T,
    close,
    gradient,
    inputs,
    made,
    random_starts,
    windowed,
)
from tests.kernels.extension import needs_native


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# ---- LSTM -------------------------------------------------------------------------------------------------------


def cell_loop(lstm: LSTM, x: Tensor, starts: Tensor, n: int | None) -> Tensor:
    """Row by row and step by step, with nn.LSTMCell and the truncation rule written out."""
    cell = nn.LSTMCell(I, H, dtype=F64)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        delattr(cell, name)
        setattr(cell, name, getattr(lstm.lstm, f"{name}_l0"))
    rows = []
    for row in range(x.shape[1]):
        h = c = torch.zeros(1, H, dtype=F64)
        t, outputs = 0, []
        for now in range(x.shape[0]):
            t += 1
            if starts[now, row]:
                h = c = torch.zeros(1, H, dtype=F64)
                t = 1
            if n is not None and (t - 1) % n == 0:
                h, c = h.detach(), c.detach()
            h, c = cell(x[now, [row]], (h, c))
            outputs.append(h)
        rows.append(torch.cat(outputs))
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("n", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("chance", [0.0, 0.2])
def test_lstm_equals_a_loop_of_cells(n: int | None, chance: float) -> None:
    core = LSTM(I, H, bptt_steps=n, dtype=F64)
    x = inputs().requires_grad_()
    starts = torch.rand(T, B) < chance
    output, state = core(x, None, starts)
    expected = cell_loop(core, x, starts, n)
    close(output, expected)
    close(state.h[:, 0], expected[-1])
    wrt = [x, *core.parameters()]
    for actual, loop in zip(gradient(output, *wrt), gradient(expected, *wrt), strict=True):
        close(actual, loop)


def test_truncation_stops_the_gradient_and_nothing_else() -> None:
    full, short = LSTM(I, H, dtype=F64), LSTM(I, H, bptt_steps=4, dtype=F64)
    short.load_state_dict(full.state_dict())
    x = inputs().requires_grad_()
    assert torch.equal(full(x)[0][:4], short(x)[0][:4])
    close(full(x)[0], short(x)[0])
    for last, segment in [(3, 0), (4, 4), (7, 4), (11, 8), (12, 12)]:
        to_x = gradient(short(x)[0][last], x)[0]
        assert to_x[:segment].eq(0).all()
        assert to_x[segment : last + 1].ne(0).all()
        assert gradient(full(x)[0][last], x)[0][: last + 1].ne(0).all()


def test_a_long_sequence_without_events_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    torch_lstm: Any = torch.lstm

    def counted(x: Tensor, *rest: Any, **modes: Any) -> Any:
        calls.append(x.shape[0])
        return torch_lstm(x, *rest, **modes)

    monkeypatch.setattr(torch, "lstm", counted)
    starts = torch.zeros(T, B, dtype=torch.bool)
    starts[0] = True
    made(LSTM)(inputs(), None, starts)
    starts[4, 1] = starts[4, 2] = starts[10, 0] = True
    made(LSTM)(inputs(), None, starts)
    made(LSTM, bptt_steps=5)(inputs())
    assert calls == [T, 4, 6, 3, 5, 5, 3]


@pytest.mark.parametrize("training", [True, False])
def test_an_lstm_can_backpropagate_on_cudnn_in_either_mode(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[tuple[bool, float]] = []
    torch_lstm: Any = torch.lstm

    def noted(*arguments: Any, train: bool, dropout: float, **rest: Any) -> Any:
        modes.append((train, dropout))
        return torch_lstm(*arguments, train=train, dropout=dropout, **rest)

    monkeypatch.setattr(torch, "lstm", noted)
    made(lambda *sizes, **settings: LSTM(*sizes, layers=2, dropout=0.5, **settings)).train(training)(inputs())
    assert modes == [(True, 0.5 if training else 0.0)]  # cuDNN refuses where `train` is False


@pytest.mark.parametrize("n", [None, 3])
def test_layers_of_an_lstm_are_those_of_torch(n: int | None) -> None:
    core = LSTM(I, H, bptt_steps=n, layers=2, dtype=F64)
    x, starts = inputs().requires_grad_(), random_starts()
    output, state = core(x, None, starts)
    first, second = LSTM(I, H, bptt_steps=n, dtype=F64), LSTM(H, H, bptt_steps=n, dtype=F64)
    for layer, single in enumerate((first, second)):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            delattr(single.lstm, f"{name}_l0")
            setattr(single.lstm, f"{name}_l0", getattr(core.lstm, f"{name}_l{layer}"))
    hidden = cell_loop(first, x, starts, n)
    close(output, second(hidden, None, starts)[0])
    close(state.h[:, 0], hidden[-1])
    close(state.h[:, 1], output[-1])


def test_dropout_between_layers_is_for_training_alone() -> None:
    core, x = LSTM(I, H, layers=2, dropout=0.5, dtype=F64), inputs()
    assert not torch.equal(core(x)[0], core(x)[0])
    core.eval()
    close(core(x)[0], core(x)[0])


@needs_native
@pytest.mark.parametrize(("n", "layers"), [(None, 1), (4, 1), (None, 2), (4, 2)])
def test_an_lstm_in_compiled_code_equals_one_in_stretches(n: int | None, layers: int) -> None:
    core, starts = LSTM(I, H, bptt_steps=n, layers=layers), random_starts()
    x = inputs().float().requires_grad_()
    state = LSTMState(torch.randn(B, layers, H), torch.randn(B, layers, H), torch.tensor([0, 3, 5, 7]))
    found = {}
    for way in ("native", "torch"):
        with forced_kernel(way):
            output, after = core(x, state, starts)
            loss = output.square().sum() + after.c.sum()
            found[way] = (output, *after.tensors(), *torch.autograd.grad(loss, [x, *core.parameters()]))
    for fast, plain in zip(found["native"], found["torch"], strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


# ---- LSTM with attention ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 5])
def test_lstm_attention_equals_a_loop(size: int | None) -> None:
    core = LSTMAttention(I, H, attention_size=size, dtype=F64)
    x, starts = inputs().requires_grad_(), random_starts()
    output, _ = core(x, None, starts)
    assert core.output_size == 2 * H
    hidden = cell_loop(core.lstm, x, starts, None)
    expected = torch.zeros_like(output)
    for row in range(B):
        begin = 0
        for t in range(T):
            begin = t if starts[t, row] else begin
            summary = torch.zeros(H, dtype=F64)
            if t > begin:
                past = hidden[begin:t, row]
                scores = [core.key(h) @ core.query(hidden[t, row]) / math.sqrt(core.attention_size) for h in past]
                summary = torch.softmax(torch.stack(scores), dim=0) @ past
            expected[t, row] = torch.cat([hidden[t, row], summary])
    close(output, expected)
    wrt = [x, *core.parameters()]
    for actual, loop in zip(gradient(output, *wrt), gradient(expected, *wrt), strict=True):
        close(actual, loop)


def test_lstm_attention_without_a_past_gives_zeros_and_finite_gradients() -> None:
    core = made(LSTMAttention)
    x = inputs().requires_grad_()
    output, _ = core(x, None, torch.ones(T, B, dtype=torch.bool))
    assert output[..., H:].eq(0).all()
    for grad in gradient(output, x, *core.parameters()):
        assert grad.isfinite().all()


# ---- Transformer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [Transformer, windowed])
def test_transformer_is_causal(build: Builder) -> None:
    core = made(build)
    x = inputs().requires_grad_()
    for t in (0, 5, T - 1):
        to_x = gradient(core(x)[0][t], x)[0]
        assert to_x[t + 1 :].eq(0).all()
        assert to_x[t].ne(0).all()


@pytest.mark.parametrize(("context", "layers"), [(1, 2), (3, 1), (4, 2)])
def test_transformer_context_bounds_what_each_layer_reads(context: int, layers: int) -> None:
    core = Transformer(I, H, layers=layers, context=context, dtype=F64)
    x = inputs().requires_grad_()
    to_x = gradient(core(x)[0][-1], x)[0]
    oldest = T - 1 - layers * (context - 1)
    assert to_x[:oldest].eq(0).all()
    assert to_x[oldest:].ne(0).all()


def test_transformer_equals_the_layer_of_torch() -> None:
    core = Transformer(I, H, layers=1, heads=2, dtype=F64)
    twin = nn.TransformerEncoderLayer(
        H, 2, 4 * H, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=F64
    )
    block = core.blocks[0]
    modules = dict(block.named_modules())
    names = {
        "self_attn.in_proj_": "query_key_value",
        "self_attn.out_proj.": "project",
        "norm1.": "norm_attention",
        "norm2.": "norm_mlp",
        "linear1.": "mlp.0",
        "linear2.": "mlp.2",
    }
    twin.load_state_dict(
        {
            f"{theirs}{kind}": getattr(modules[ours], kind)
            for theirs, ours in names.items()
            for kind in ("weight", "bias")
        }
    )
    x = inputs()
    frequencies = [10000.0 ** (-2 * i / H) for i in range(H // 2)]
    angles = [[t * f for f in frequencies] for t in range(T)]
    places = torch.tensor([[*map(math.sin, row), *map(math.cos, row)] for row in angles], dtype=F64)
    embedded = (core.embed(x) + places.unsqueeze(1)).transpose(0, 1)
    expected = core.norm(twin(embedded, src_mask=torch.ones(T, T, dtype=torch.bool).triu(1)))
    torch.testing.assert_close(core(x)[0], expected.transpose(0, 1), rtol=1e-5, atol=1e-5)


def test_transformer_takes_an_odd_hidden_size() -> None:
    core = Transformer(I, 5, heads=1, dtype=F64)
    assert core(inputs())[0].shape == (T, B, 5)
