"""An exported step acts as the policy does, over an episode and the next ones, in torch and in ONNX Runtime."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium import spaces

from sab_agents.core.lstm_attention import LSTMAttentionState
from sab_agents.core.transformer import TransformerState
from sab_agents.ppo.cores import state_from
from sab_agents.ppo.export import METADATA, PolicyStep, export_policy
from sab_agents.ppo.kinds import POLICIES
from sab_agents.ppo.policies import RecurrentActorCriticPolicy
from tests.readings import BEYOND
from tests.selection import only

runtime: Any = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[export]'")

Array = npt.NDArray[Any]
Step = Callable[[Any, tuple[Array, ...], Array], tuple[Array, tuple[Array, ...]]]

STEPS = 110
ROWS = 3
MOST = 45  # steps of an episode
VECTOR = spaces.Box(-1, 1, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
DICT = spaces.Dict({"near": spaces.Box(-1, 1, (2, 2)), "far": spaces.Discrete(3), "bits": spaces.MultiBinary(2)})
DISCRETE = spaces.Discrete(4)
BOX = spaces.Box(np.array([-0.2, -0.5], np.float32), np.array([0.3, 0.5], np.float32))

CASES: dict[str, tuple[str, spaces.Space[Any], spaces.Space[Any], dict[str, Any]]] = {
    "sab": ("MlpSabPolicy", VECTOR, DISCRETE, {"core_kwargs": {"capacity": 8}}),
    "sab, other rules": (
        "MlpSabPolicy",
        VECTOR,
        spaces.MultiDiscrete([2, 3, 2]),
        {"core_kwargs": {"capacity": 6, "attention": "mlp", "eviction": "oldest", "write": "every", "write_every": 2}},
    ),
    "sab, few slots": (
        "MlpSabPolicy",
        spaces.MultiDiscrete([3, 4]),
        BOX,
        {"core_kwargs": {"capacity": 4, "top_k": 5, "eviction": "most_redundant", "novelty": 0.1}},
    ),
    "sab, reservoir": (
        "MlpSabPolicy",
        VECTOR,
        DISCRETE,
        {"core_kwargs": {"capacity": 5, "eviction": "reservoir", "write": "every"}},
    ),
    "sab, beyond the paper": (
        "MlpSabPolicy",
        VECTOR,
        DISCRETE,
        {"core_kwargs": {"capacity": 6, "top_k": 2, "write": "refresh", "novelty": 0.3, **BEYOND}},
    ),
    "sab, images": ("CnnSabPolicy", IMAGE, DISCRETE, {"core_kwargs": {"capacity": 8}}),
    "sab, dict": ("MultiInputSabPolicy", DICT, spaces.MultiBinary(3), {"core_kwargs": {"capacity": 8}}),
    "lstm": ("MlpLstmPolicy", VECTOR, BOX, {"n_lstm_layers": 2, "lstm_kwargs": {"bptt_steps": 4, "dropout": 0.3}}),
    "lstm, squashed": (
        "MlpLstmPolicy",
        spaces.Discrete(6),
        BOX,
        {"use_sde": True, "squash_output": True, "shared_lstm": True, "enable_critic_lstm": False},
    ),
    "lstm, dict": ("MultiInputLstmPolicy", DICT, DISCRETE, {"share_features_extractor": False}),
    "attention": ("MlpAttentionLstmPolicy", VECTOR, DISCRETE, {}),
    "attention, images": ("CnnAttentionLstmPolicy", IMAGE, BOX, {}),
    "transformer": ("MlpTransformerPolicy", VECTOR, DISCRETE, {"core_kwargs": {"context": 9}}),
    "transformer, whole episode": ("MultiInputTransformerPolicy", DICT, BOX, {"n_lstm_layers": 3}),
    "trace units": ("MlpRtuPolicy", VECTOR, BOX, {}),
    "transformer, the present alone": ("MlpTransformerPolicy", VECTOR, DISCRETE, {"core_kwargs": {"context": 1}}),
}
FEW = ["sab", "sab, dict", "lstm", "attention", "transformer, whole episode"]


def built(case: str) -> RecurrentActorCriticPolicy:
    name, observations, actions, settings = CASES[case]
    torch.manual_seed(0)
    policy = POLICIES[name](observations, actions, lambda _: 1e-3, lstm_hidden_size=16, **settings)
    torch.nn.init.normal_(policy.action_net.weight)  # type: ignore[arg-type]  # at first all actions are all but equal
    for parameter in (each for key, each in policy.named_parameters() if ".age." in key or ".gate." in key):
        torch.nn.init.normal_(parameter, std=0.5)
    return policy


def episode_starts() -> Array:
    """(STEPS, ROWS): none in row 0's first `MOST` steps but the first, then anywhere, never more than MOST apart."""
    starts = np.random.default_rng(1).random((STEPS, ROWS)) < 0.06
    starts[:MOST, 0] = False
    starts[::MOST] = True
    return starts


def sampled(space: spaces.Space[Any], rng: np.random.Generator) -> Any:
    """Observations of all rows."""
    if isinstance(space, spaces.Dict):
        return {key: sampled(part, rng) for key, part in space.spaces.items()}
    space.seed(int(rng.integers(1 << 30)))
    return np.stack([space.sample() for _ in range(ROWS)])


def assert_acts_like(policy: RecurrentActorCriticPolicy, step: Step, state: tuple[Array, ...]) -> None:
    rng = np.random.default_rng(2)
    carried = None
    seen = set()
    for start in episode_starts():
        observation = sampled(policy.observation_space, rng)
        expected, carried = policy.predict(observation, carried, start, deterministic=True)
        assert carried is not None
        action, state = step(observation, state, start)
        assert action.dtype == expected.dtype
        np.testing.assert_allclose(action, expected, rtol=0, atol=1e-5)
        assert_same_state(policy, state, carried)
        seen.add(action.tobytes())
    assert len(seen) > 4


def assert_same_state(policy: RecurrentActorCriticPolicy, state: tuple[Array, ...], carried: tuple[Array, ...]) -> None:
    expected = state_from(carried, policy.actor_stream.initial_state(1), torch.device("cpu"))
    grows = isinstance(expected, LSTMAttentionState | TransformerState)
    for field, found in zip(fields(expected), state, strict=True):
        wanted = getattr(expected, field.name).numpy()
        axis = {"memory": 1, "filled": 1, "positions": 1, "keys": 2, "values": 2}.get(field.name)
        if grows and axis is not None:  # the newest column is the last
            columns = min(wanted.shape[axis], found.shape[axis])
            last = np.arange(-columns, 0)
            wanted, found = np.take(wanted, last, axis), np.take(found, last, axis)  # noqa: PLW2901
        elif field.name == "step" and len(carried) == 2:
            continue  # an LSTM's state, as arrays, has no count
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5, err_msg=field.name)


def max_steps(policy: RecurrentActorCriticPolicy) -> int | None:
    return MOST if "Attention" in type(policy).__name__ or "Transformer" in type(policy).__name__ else None


def session_of(path: Path) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(path, options)


def in_onnx_runtime(path: Path) -> tuple[Step, dict[str, Array]]:
    """A step by ONNX Runtime and the state to begin with, made from the file alone."""
    session = session_of(path)
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])["state"]
    state = {f"state_{name}": np.zeros((ROWS, *each["shape"]), each["dtype"]) for name, each in about.items()}

    def step(observation: Any, carried: tuple[Array, ...], start: Array) -> tuple[Array, tuple[Array, ...]]:
        named = {"observation": observation}
        if isinstance(observation, dict):
            named = {f"observation_{key}": part for key, part in observation.items()}
        action, *after = session.run(None, {**named, **dict(zip(state, carried, strict=True)), "episode_start": start})
        return action, tuple(after)

    return step, state


@pytest.mark.parametrize("case", only(["sab, dict"], FEW))
def test_an_exported_program_acts_like_the_policy(case: str, tmp_path: Path) -> None:
    policy = built(case)
    path = export_policy(policy, tmp_path / "policy.pt2", max_steps=max_steps(policy))
    extra = {METADATA: ""}
    program = torch.export.load(path, extra_files=extra).module()
    about = json.loads(extra[METADATA])
    state = tuple(np.zeros((ROWS, *each["shape"]), each["dtype"]) for each in about["state"].values())

    def step(observation: Any, carried: tuple[Array, ...], start: Array) -> tuple[Array, tuple[Array, ...]]:
        with torch.no_grad():
            action, after = program(
                {key: torch.as_tensor(part) for key, part in observation.items()}
                if isinstance(observation, dict)
                else torch.as_tensor(observation),
                tuple(torch.as_tensor(each) for each in carried),
                torch.as_tensor(start),
            )
        return action.numpy(), tuple(each.numpy() for each in after)

    assert about["policy"] == type(policy).__name__
    assert_acts_like(policy, step, state)


@pytest.mark.parametrize("case", only(["sab, dict"], CASES))
def test_onnx_runtime_acts_like_the_policy(case: str, tmp_path: Path) -> None:
    policy = built(case)
    step, state = in_onnx_runtime(export_policy(policy, tmp_path / "policy.onnx", max_steps=max_steps(policy)))
    assert_acts_like(policy, step, tuple(state.values()))


def test_a_graph_in_onnx_names_what_goes_in_and_out_and_takes_any_number_of_rows(tmp_path: Path) -> None:
    session = session_of(export_policy(built("lstm, dict"), tmp_path / "policy.onnx"))
    observations = ["observation_bits", "observation_far", "observation_near"]
    assert [each.name for each in session.get_inputs()] == [
        *(*observations, "state_h", "state_c", "state_step", "episode_start")
    ]
    assert [each.name for each in session.get_outputs()] == ["action", "new_state_h", "new_state_c", "new_state_step"]
    assert {each.name: each.shape for each in session.get_inputs()}["state_h"] == ["batch", 1, 16]
    for rows in (1, 7):
        space = CASES["lstm, dict"][1]
        assert isinstance(space, spaces.Dict)
        named = {f"observation_{key}": np.zeros((rows, *(part.shape or ())), part.dtype) for key, part in space.items()}
        state = {f"state_{name}": np.zeros((rows, 1, 16), np.float32) for name in "hc"}
        start = np.ones(rows, bool)
        found = session.run(None, {**named, **state, "state_step": np.zeros(rows, np.int64), "episode_start": start})
        assert found[0].shape == (rows,)


def test_a_fixed_number_of_rows_is_in_the_graph(tmp_path: Path) -> None:
    session = session_of(export_policy(built("lstm"), tmp_path / "policy.onnx", batch_size=1))
    assert {each.name: each.shape for each in session.get_inputs()}["state_h"] == [1, 2, 16]


def test_a_growing_state_forgets_the_oldest_steps_beyond_max_steps() -> None:
    policy = built("attention")
    short, long = PolicyStep(policy, 4), PolicyStep(policy, 20)
    before = [step.initial_state(1).tensors() for step in (short, long)]
    x = torch.randn(6, 1, 5)
    with torch.no_grad():
        for t in range(6):
            summaries = []
            for i, step in enumerate((short, long)):
                output, after = step.stream.plain_act(x[t], type(step.initial_state(1))(*before[i]))
                before[i] = after.tensors()
                summaries.append(output)
            assert torch.allclose(summaries[0], summaries[1], rtol=0, atol=1e-6) == (t < 4)


@pytest.mark.parametrize("case", ["attention", "transformer, whole episode"])
def test_a_growing_state_needs_max_steps(case: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Pass max_steps"):
        export_policy(built(case), tmp_path / "policy.pt2")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": "policy.pt"}, ValueError, r'must end in "\.onnx" or "\.pt2", but is .policy\.pt.'),
        ({"model": torch.nn.Linear(1, 1)}, TypeError, "must be a RecurrentPPO or one of its policies, but is Linear"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"max_steps": 2.5}, TypeError, "max_steps must be an int"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        export_policy(**{"model": built("lstm"), "path": "policy.onnx", **arguments})


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"needs onnxscript, which is not installed\. .*'sab-agents\[export\]'"):
        export_policy(built("lstm"), tmp_path / "policy.onnx")


def test_export_leaves_the_policy_as_it_was(tmp_path: Path) -> None:
    policy = built("lstm")
    policy.set_training_mode(True)
    before = [parameter.clone() for parameter in policy.parameters()]
    export_policy(policy, tmp_path / "policy.pt2")
    assert policy.training
    assert all(torch.equal(*each) for each in zip(before, policy.parameters(), strict=True))
