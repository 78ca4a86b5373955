"""A mixture of linear classifiers with another one, with the native kernel."""

from __future__ import annotations

from typing import Any

from sab_agents.kernels.native_backend.extension import native
from sab_agents.kernels.types import MixtureState


class CompiledMixture:
    """Computes what `mixture_kernel` says."""

    def __init__(self, state: MixtureState) -> None:
        sizes = {
            "labels": len(state.mixed),
            "linears": len(state.rates),
            "views": len(state.x),
            "features": state.x.shape[1],
        }

        def named(*names: str) -> dict[str, Any]:
            return {name: getattr(state, name) for name in names}

        self._mix = native.Mix(**sizes, **named("x", "other", "weights", "linear", "each", "mixed"))
        self._learn = native.MixLearn(
            **sizes,
            **named("x", "rates", "weights", "linear", "each"),
            share=state.share,
            least=state.least,
            label=0,
            known=0,
        )
        self.mix = self._mix.run

    def learn(self, label: int, known: bool) -> None:
        """Changes `weights`, if the label was known, and `linear`."""
        learn = self._learn
        learn.label, learn.known = label, int(known)
        learn.run()
