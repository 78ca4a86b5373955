"""The policies by name: for each kind of core, one for vectors, one for images and one for dicts of observations."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN

from sab_agents.core import LSTM, LSTMAttention, Transformer
from sab_agents.ppo.plain_cores import LstmRolloutCore, PlainRolloutCore
from sab_agents.ppo.policies import RecurrentActorCriticPolicy
from sab_agents.ppo.rollout_cores import RolloutCore
from sab_agents.ppo.sab_core import SabRolloutCore


class MlpSabPolicy(RecurrentActorCriticPolicy):
    """Sparse Attentive Backtracking whose credit crosses rollouts; settings of the core: see `SabRolloutCore`."""

    def build_core(self, input_size: int, **settings: Any) -> RolloutCore:
        """A `SabRolloutCore`."""
        self.only_one_layer()
        return SabRolloutCore(input_size, self.hidden_size, **settings)


class MlpLstmPolicy(RecurrentActorCriticPolicy):
    """LSTM with backpropagation to the start of a segment, or truncated.

    Settings of the core: `bptt_steps` (None: to the segment's start) and `dropout` between layers.
    """

    def build_core(self, input_size: int, **settings: Any) -> RolloutCore:
        """An `LstmRolloutCore`."""
        return LstmRolloutCore(LSTM(input_size, self.hidden_size, layers=self.layers, **settings))


class MlpAttentionLstmPolicy(RecurrentActorCriticPolicy):
    """LSTM with dense attention to all past states of the episode; setting of the core: `attention_size`.

    Its memory grows with the longest episode. Gradient reaches to the start of a segment.
    """

    def build_core(self, input_size: int, **settings: Any) -> RolloutCore:
        """An `LSTMAttention`."""
        self.only_one_layer()
        return PlainRolloutCore(LSTMAttention(input_size, self.hidden_size, **settings))


class MlpTransformerPolicy(RecurrentActorCriticPolicy):
    """Causal Transformer; settings of the core: `layers`, `heads` and `context` (None: the whole episode).

    Its memory grows with the context. Gradient reaches to the start of a segment.
    """

    def build_core(self, input_size: int, **settings: Any) -> RolloutCore:
        """A `Transformer`; `n_lstm_layers` above 1 are its layers."""
        layers = {"layers": self.layers} if self.layers > 1 else {}
        return PlainRolloutCore(Transformer(input_size, self.hidden_size, **{**layers, **settings}))


class CnnSabPolicy(MlpSabPolicy):
    """`MlpSabPolicy` for images."""

    extractor = NatureCNN


class MultiInputSabPolicy(MlpSabPolicy):
    """`MlpSabPolicy` for dicts of observations."""

    extractor = CombinedExtractor


class CnnLstmPolicy(MlpLstmPolicy):
    """`MlpLstmPolicy` for images."""

    extractor = NatureCNN


class MultiInputLstmPolicy(MlpLstmPolicy):
    """`MlpLstmPolicy` for dicts of observations."""

    extractor = CombinedExtractor


class CnnAttentionLstmPolicy(MlpAttentionLstmPolicy):
    """`MlpAttentionLstmPolicy` for images."""

    extractor = NatureCNN


class MultiInputAttentionLstmPolicy(MlpAttentionLstmPolicy):
    """`MlpAttentionLstmPolicy` for dicts of observations."""

    extractor = CombinedExtractor


class CnnTransformerPolicy(MlpTransformerPolicy):
    """`MlpTransformerPolicy` for images."""

    extractor = NatureCNN


class MultiInputTransformerPolicy(MlpTransformerPolicy):
    """`MlpTransformerPolicy` for dicts of observations."""

    extractor = CombinedExtractor


POLICIES: dict[str, type[RecurrentActorCriticPolicy]] = {
    policy.__name__: policy
    for kind in (MlpSabPolicy, MlpLstmPolicy, MlpAttentionLstmPolicy, MlpTransformerPolicy)
    for policy in (kind, *kind.__subclasses__())
}
"""Every policy by the name that `RecurrentPPO` takes."""
