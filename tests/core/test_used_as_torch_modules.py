"""What others do with a torch module works with every core, or is refused in a sentence."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.export import Dim
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from sab_agents.core import CORES, build_core
from sab_agents.kernels import forced_kernel
from tests.kernels.extension import needs_native
from tests.selection import first, only, slow

every_core = pytest.mark.parametrize("name", CORES)
every_kernel = pytest.mark.parametrize("kernel", [pytest.param("native", marks=needs_native), "torch"])


def core_and_input(name: str, **settings: Any) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    dtype = settings.get("dtype", torch.float32)
    return build_core(name, 3, 4, **settings), torch.randn(5, 2, 3, dtype=dtype)


def learned(core: Any, output: Tensor) -> list[Tensor]:
    core.zero_grad()
    output.float().square().sum().backward()  # type: ignore[no-untyped-call]
    return [output.detach(), *(parameter.grad for parameter in core.parameters() if parameter.grad is not None)]


def assert_equal(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs)


@every_core
@every_kernel
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_recomputes_it(name: str, kernel: str, reentrant: bool) -> None:
    core, x = core_and_input(name)
    with forced_kernel(kernel):
        output: Any = checkpoint(lambda y: core(y)[0], x.requires_grad_(), use_reentrant=reentrant)
        assert_equal(learned(core, output), learned(core, core(x)[0]))


@every_core
@every_kernel
def test_autocast_on_a_cpu_takes_any_dtype_and_computes_in_the_parameters(name: str, kernel: str) -> None:
    core, x = core_and_input(name)
    rounded = x.bfloat16()
    with forced_kernel(kernel):
        expected = learned(core, core(rounded.float())[0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output, state = core(rounded)
            assert core.step(rounded[0], state)[0].dtype is output.dtype is torch.float32
        assert_equal(learned(core, output), expected)


@every_core
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_a_trace_is_refused(name: str) -> None:
    core, x = core_and_input(name)
    with pytest.raises(TypeError, match=r"torch\.jit\.trace would fix .* Use torch\.export"):
        torch.jit.trace(lambda y: core(y)[0], (x,))  # type: ignore[no-untyped-call]


@every_core
@every_kernel
def test_hooks_are_called(name: str, kernel: str) -> None:
    core, x = core_and_input(name)
    called: list[str] = []
    core.register_forward_hook(lambda *_: called.append("forward"))
    core.register_full_backward_hook(lambda *_: called.append("backward"))
    with forced_kernel(kernel):
        learned(core, core(x.requires_grad_())[0])
    assert called == ["forward", "backward"]


@every_core
@every_kernel
def test_threads_share_a_core(name: str, kernel: str) -> None:
    core, x = core_and_input(name)
    with forced_kernel(kernel):
        expected, found = core(x)[0], list[Tensor]()
        threads = [threading.Thread(target=lambda: found.append(core(x)[0])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert all(torch.equal(expected, each) for each in found)


@every_core
@every_kernel
def test_inference_mode_and_a_frozen_part(name: str, kernel: str) -> None:
    core, x = core_and_input(name)
    with forced_kernel(kernel):
        expected = core(x)[0].detach()
        with torch.inference_mode():
            found = core(x)[0]
        if kernel == "torch" and name.startswith("lstm"):  # without gradients torch's own LSTM may use another kernel
            torch.testing.assert_close(found, expected)
        else:
            assert torch.equal(found, expected)
        first = next(core.parameters()).requires_grad_(False)
        learned(core, core(x)[0])
        assert first.grad is None


# ---- shapes without numbers -----------------------------------------------------------------------------------------


def shapes_of(core: Any, x: Tensor, start: Tensor) -> list[tuple[torch.Size, torch.dtype]]:
    """Of a sequence that continues another one, a step, their states, and the gradients."""
    output, state = core(x)
    after, ahead = core(x, state, start)
    last, end = core.step(x[0], ahead, start[0])
    (output.sum() + after.sum() + last.sum()).backward()
    gradients = [parameter.grad for parameter in core.parameters()]
    return [(each.shape, each.dtype) for each in (output, after, last, *state.tensors(), *end.tensors(), *gradients)]


BOUNDED = [(name, {"capacity": 3} if name.startswith("sab") else {}) for name in CORES]
bounded_core = pytest.mark.parametrize(("name", "settings"), BOUNDED, ids=[name for name, _ in BOUNDED])
EXPORTED = ["sab", "lstm", "transformer"]  # by default; an export takes a second


@bounded_core
@pytest.mark.parametrize("way", ["meta", "fake"])
def test_tensors_without_numbers_have_the_shapes_of_real_ones(name: str, settings: dict[str, Any], way: str) -> None:
    core, x = core_and_input(name, **settings)
    expected = shapes_of(core, x, torch.zeros(5, 2, dtype=torch.bool))
    with FakeTensorMode() if way == "fake" else torch.device("meta"):
        imagined = build_core(name, 3, 4, **settings)
        start = torch.zeros(5, 2, dtype=torch.bool)
        assert shapes_of(imagined, torch.zeros(5, 2, 3), start) == expected


@pytest.mark.parametrize("name", ["sab", "sab_uncredited", "sab_softmax"])
def test_an_unbounded_memory_without_numbers_has_room_for_every_write(name: str) -> None:
    core, _ = core_and_input(name, device="meta", write_every=2)
    output, state = core(torch.zeros(5, 2, 3, device="meta"))
    _, after = core(torch.zeros(5, 2, 3, device="meta"), state)
    assert output.shape == (5, 2, 8)
    assert state.slots == 3  # which are 2 if the number of steps is known
    assert after.slots == 6


@every_core
def test_a_saved_state_is_loaded_as_tensors_are(name: str) -> None:
    core, x = core_and_input(name)
    with torch.no_grad():
        state = core(x)[1]
    buffer = io.BytesIO()
    torch.save({"state": state}, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)["state"]
    assert type(loaded) is type(state)
    assert_equal(list(loaded.tensors()), list(state.tensors()))


# ---- exports --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "settings"), [case if case[0] in EXPORTED else slow(*case) for case in BOUNDED])
@pytest.mark.parametrize("strict", first(1, [False, True]))
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*lift_constants:UserWarning"
)
def test_a_whole_core_is_exported_with_its_state(name: str, settings: dict[str, Any], strict: bool) -> None:
    core, x = core_and_input(name, **settings)
    with torch.no_grad():
        state = core(x)[1]
    start = torch.zeros(5, 2, dtype=torch.bool)
    arguments = (x, state, start)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(core, arguments, strict=strict), buffer)
    buffer.seek(0)
    exported = torch.export.load(buffer).module()
    start[2, 1] = True
    expected, after = core(*arguments)
    output, final = exported(*arguments)
    torch.testing.assert_close(output, expected)
    assert type(final) is type(after)
    torch.testing.assert_close(core(x, final)[0], core(x, after)[0])


@pytest.mark.parametrize("name", only(EXPORTED, CORES))
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_export_leaves_the_number_of_rows_open(name: str) -> None:
    core, x = core_and_input(name)
    exported = torch.export.export(core, (x,), dynamic_shapes=({1: Dim("rows", max=64)},)).module()
    more = torch.randn(5, 7, 3)
    torch.testing.assert_close(exported(more)[0], core(more)[0])


@pytest.mark.parametrize("name", ["sab", "sab_softmax", "mingru", "rtu", "transformer"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_compiled_core_needs_no_graph_break(name: str) -> None:
    core, x = core_and_input(name)
    reset: Any = torch._dynamo.reset
    reset()
    compiled: Any = torch.compile(core, backend="eager", fullgraph=True)
    output, state = compiled(x)
    torch.testing.assert_close(output, core(x)[0])
    assert type(state) is core.state_class


# ---- transforms -----------------------------------------------------------------------------------------------------


def loss_of(core: Any, parameters: dict[str, Tensor], x: Tensor, start: Tensor) -> Tensor:
    output, state = functional_call(core, parameters, (x, None, start))
    sums = [each.sum() for each in state.tensors() if each.is_floating_point()]
    return torch.stack([output.pow(2).sum(), *sums]).sum()


@every_core
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_of_each_sequence_are_those_of_a_loop(name: str, dtype: torch.dtype) -> None:
    core, _ = core_and_input(name, dtype=dtype)
    parameters = {key: value.detach() for key, value in core.named_parameters()}
    x, start = torch.randn(3, 5, 2, 3, dtype=dtype), torch.rand(5, 2) < 0.3
    found = vmap(grad(lambda p, y: loss_of(core, p, y, start)), in_dims=(None, 0))(parameters, x)
    for index in range(3):
        alone = torch.autograd.grad(loss_of(core, dict(core.named_parameters()), x[index], start), core.parameters())
        for (key, _), expected in zip(core.named_parameters(), alone, strict=True):
            torch.testing.assert_close(found[key][index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_layers_and_weight_norm_under_a_transform(name: str) -> None:
    core, x = core_and_input(name, layers=2, dtype=torch.float64)
    inner = core.gru if name == "gru" else core.lstm
    nn.utils.parametrizations.weight_norm(inner, "weight_hh_l1")
    many = torch.stack([x, -x, 2 * x])
    torch.testing.assert_close(vmap(lambda y: core(y)[0])(many), torch.stack([core(y)[0] for y in many]))


@every_core
def test_members_of_an_ensemble_are_those_of_a_loop(name: str) -> None:
    members, (_, x) = [build_core(name, 3, 4) for _ in range(3)], core_and_input(name)
    parameters, buffers = stack_module_state(members)
    found = vmap(lambda p, b: functional_call(members[0], (p, b), (x,))[0])(parameters, buffers)
    torch.testing.assert_close(found, torch.stack([member(x)[0] for member in members]))


@every_core
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_jacobians_and_hessians_do_not_depend_on_the_mode(name: str) -> None:
    core, x = core_and_input(name, dtype=torch.float64)
    torch.testing.assert_close(jacfwd(lambda y: core(y)[0])(x), jacrev(lambda y: core(y)[0])(x))
    squares = lambda y: core(y)[0].pow(2).sum()  # noqa: E731
    forward_over_reverse, reverse_over_reverse = hessian(squares)(x), jacrev(jacrev(squares))(x)
    torch.testing.assert_close(forward_over_reverse, reverse_over_reverse)
    assert forward_over_reverse.abs().max() > 0


@every_core
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_a_step_under_vmap_takes_and_returns_states(name: str) -> None:
    core, x = core_and_input(name, **({"capacity": 3} if name.startswith("sab") else {}))
    with torch.no_grad():
        state = core(x)[1]
        output, after = vmap(core.step, in_dims=(0, None))(x, state)
        torch.testing.assert_close(output, torch.stack([core.step(each, state)[0] for each in x]))
        assert type(after) is type(state)
        assert after.tensors()[0].shape[0] == len(x)


@every_core
def test_second_derivatives_are_right_or_refused_with_a_remedy(name: str) -> None:
    core, x = core_and_input(name, dtype=torch.float64)
    check: Any = torch.autograd.gradgradcheck
    arguments = (lambda y: core(y)[0].sum(dim=0), x[:3].requires_grad_())
    if name != "transformer":
        assert check(*arguments)
        return
    with pytest.raises(NotImplementedError, match=r"attention that is not fused. Run .*SDPBackend\.MATH"):
        check(*arguments)
    with sdpa_kernel(SDPBackend.MATH):
        assert check(*arguments)


# ---- arguments ------------------------------------------------------------------------------------------------------


@every_core
def test_an_input_may_lie_in_memory_as_it_likes(name: str) -> None:
    core, x = core_and_input(name)
    expected, state = core(x)
    start = torch.rand(2, 5) < 0.3
    begun, _ = core(x, state, start.t().contiguous())
    for other in (x.transpose(0, 1).contiguous().transpose(0, 1), torch.stack([x, x], dim=-1)[..., 1]):
        assert not other.is_contiguous()
        torch.testing.assert_close(core(other)[0], expected)
        torch.testing.assert_close(core(other, state, start.t())[0], begun)
    parted = type(state)(*(torch.stack([each, each], dim=-1)[..., 0] for each in state.tensors()))
    torch.testing.assert_close(core(x, parted, start.t())[0], begun)
    one = torch.randn(1, 1, 3, requires_grad=True)
    many = one.detach().expand(5, 2, 3).contiguous().requires_grad_()
    (found,) = torch.autograd.grad(core(one.expand(5, 2, 3))[0].square().sum(), one)
    (each,) = torch.autograd.grad(core(many)[0].square().sum(), many)
    torch.testing.assert_close(found, each.sum((0, 1), keepdim=True), rtol=1e-4, atol=1e-5)


@every_core
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            torch.zeros(5, 2, 3).to_sparse(),
            TypeError,
            r"a dense tensor .* layout torch.sparse_coo. Use x.to_dense",
        ),
        (nn.utils.rnn.pack_sequence([torch.zeros(2, 3)]), TypeError, "is a PackedSequence. Use .*pad_packed_sequence"),
        (torch.zeros(5, 2, 3).numpy(), TypeError, "but is ndarray. Use torch.from_numpy"),
        (torch.zeros(5, 0, 3), ValueError, r"at least one row, but has shape \(5, 0, 3\)"),
    ],
    ids=["sparse", "packed", "numpy", "no rows"],
)
def test_an_input_of_another_kind_is_refused_in_a_sentence(name: str, x: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        build_core(name, 3, 4)(x)


@every_core
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_script_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"torch\.jit\.script does not know its states\. Use torch\.export"):
        torch.jit.script(build_core(name, 3, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CORES)
def test_half_precision_is_computed_or_refused(name: str, dtype: torch.dtype) -> None:
    core, x = core_and_input(name)
    if name == "rtu":
        with pytest.raises(TypeError, match=r"complex numbers, .* but the parameters are torch\.b?float16"):
            core.to(dtype)(x.to(dtype))
        return
    expected = core(x)[0]
    output = core.to(dtype)(x.to(dtype))[0]
    assert output.dtype is dtype
    torch.testing.assert_close(output.float(), expected, rtol=0.1, atol=0.1)
