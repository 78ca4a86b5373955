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
            "linears": state.linear.shape[1],
            "views": len(state.x),
            "features": state.x.shape[1],
            "readouts": state.readout.shape[1],
            "size": len(state.output),
        }

        def named(*names: str) -> dict[str, Any]:
            return {name: getattr(state, name) for name in names}

        self._mix = native.Mix(
            **sizes,
            **named("x", "output", "head", "bias", "weights", "linear", "readout", "each", "mixed"),
        )
        self._learn = native.MixLearn(
            **sizes,
            **named("x", "output", "rates", "weights", "linear", "readout", "each"),
            share=state.share,
            least=state.least,
            label=0,
            known=0,
        )
        self.mix = self._mix.run

    def learn(self, label: int, known: bool) -> None:
        """Changes `weights`, if the label was known, `linear` and `readout`."""
        learn = self._learn
        learn.label, learn.known = label, int(known)
        learn.run()
