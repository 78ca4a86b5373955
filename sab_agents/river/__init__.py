"""Estimators of River that remember: `pip install 'sab-agents[river]'`."""

from __future__ import annotations

try:
    import river as _river
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "sab_agents.river needs River, which is not installed. Type: pip install 'sab-agents[river]'"
    ) from error

from sab_agents.river.classifier import SABClassifier
from sab_agents.river.forecaster import SABForecaster
from sab_agents.river.regressor import SABRegressor

__all__ = ["SABClassifier", "SABForecaster", "SABRegressor"]
del _river
