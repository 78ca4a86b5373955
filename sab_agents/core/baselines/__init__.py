"""Baseline cores with SAB's call signature: an LSTM (full or truncated BPTT), an LSTM with attention, a Transformer."""

from sab_agents.core.baselines.lstm import LSTM, LSTMState
from sab_agents.core.baselines.lstm_attention import LSTMAttention, LSTMAttentionState
from sab_agents.core.baselines.transformer import Transformer, TransformerState

__all__ = ["LSTM", "LSTMAttention", "LSTMAttentionState", "LSTMState", "Transformer", "TransformerState"]
