"""The usual policy's networks behind the cores, with the loss and its gradient, computed without a graph.

The networks are small, so that a graph takes longer to build and to walk through than everything in it to compute.

Dimensions: N = T · b steps of a minibatch, D output size of a core, k actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor

from sab_agents.kernels import (
    Layer,
    are_leaves,
    categorical_loss,
    gradients_of_layers,
    is_known,
    value_loss,
    values_of_layers,
)
from sab_agents.ppo.distributions import CategoricalFrom
from sab_agents.ppo.heads import layers_of
from sab_agents.ppo.losses import Batch, Losses, Weights
from sab_agents.ppo.policies import RecurrentActorCriticPolicy

OWN = ("evaluate_rows", "distribution_of", "values_of", "_get_action_dist_from_latent")
"""Methods of a policy that say what is computed here."""


class HeadsByHand:
    """The networks behind the actor's and the critic's core, for updates in which nobody changes their modules.

    Args:
        actor: layers from the actor's core to the logits of actions.
        critic: layers from the critic's core to values.
        first: the number of the first action.
        scale: of the cores' outputs; None for 1.
    """

    def __init__(self, actor: list[Layer], critic: list[Layer], first: int, scale: Tensor | None) -> None:
        self._layers, self._first, self._scale = (actor, critic), first, scale

    @classmethod
    def of(cls, policy: RecurrentActorCriticPolicy) -> Self | None:
        """Returns the networks of a policy, None if they are to be called as modules of a graph.

        That is where actor and critic do not have a core each, actions are not discrete, a layer is anything but
        linear with `nn.Tanh` or `nn.ReLU`, or a subclass or a hook has a say in what is computed.
        """
        extractor = policy.mlp_extractor
        if (
            any(_replaced(policy, name) for name in OWN)
            or policy.critic_core is None
            or type(policy.action_dist) is not CategoricalFrom
            or type(extractor) is not MlpExtractor
        ):
            return None
        actor = layers_of([extractor.policy_net, policy.action_net])
        critic = layers_of([extractor.value_net, policy.value_net])
        if actor is None or critic is None:
            return None
        parameters = [tensor for layer in (*actor, *critic) for tensor in layer[:2]]
        plain = is_known(*parameters) and are_leaves(*parameters)
        autocast = torch.is_autocast_enabled(parameters[0].device.type)
        return cls(actor, critic, policy.action_dist.start, policy.output_scale) if plain and not autocast else None

    def behind_cores(self, batch: Batch, weights: Weights) -> BehindCores:
        """Returns what takes the outputs of both cores in a minibatch.

        Args:
            batch: what was recorded of the steps.
            weights: of the losses.
        """
        return BehindCores(self._layers, self._first, self._scale, batch, weights)


class BehindCores:
    """The networks and the losses of one minibatch, of the actor and of the critic apart.

    Each returns the gradient of its core's outputs, and adds to the `.grad` of its networks' parameters. They share
    nothing that they change, so that each may run in a thread of its own, whatever torch's modes are there.

    Args:
        layers: of the actor and of the critic.
        first: the number of the first action.
        scale: of the cores' outputs; None for 1.
        batch: what was recorded of the steps.
        weights: of the losses.
    """

    def __init__(
        self,
        layers: tuple[list[Layer], list[Layer]],
        first: int,
        scale: Tensor | None,
        batch: Batch,
        weights: Weights,
    ) -> None:
        self._layers, self._first, self._scale, self._batch, self._weights = layers, first, scale, batch, weights
        self._figures: Tensor | None = None
        self._error: Tensor | None = None

    @torch.no_grad()
    def actor(self, output: Tensor) -> Tensor:
        """Returns the gradient of outputs (T, b, D) of the actor's core."""
        batch, layers = self._batch, self._layers[0]
        values = values_of_layers(layers, self._scaled(output.flatten(0, 1)))
        self._figures, gradient = categorical_loss(
            values[-1], batch.actions, batch.log_prob, batch.advantages, first=self._first, **self._weights.of_policy
        )
        return self._scaled(_through(layers, values, gradient)).view_as(output)

    @torch.no_grad()
    def critic(self, output: Tensor) -> Tensor:
        """Returns the gradient of outputs (T, b, D) of the critic's core."""
        batch, layers = self._batch, self._layers[1]
        values = values_of_layers(layers, self._scaled(output.flatten(0, 1)))
        self._error, gradient = value_loss(
            values[-1].squeeze(1), batch.values, batch.returns, **self._weights.of_values
        )
        return self._scaled(_through(layers, values, gradient.unsqueeze(1))).view_as(output)

    def losses(self) -> Losses:
        """Returns the losses, once both were called."""
        assert self._figures is not None
        assert self._error is not None
        return Losses.of(self._figures, self._error, self._weights)

    def _scaled(self, output: Tensor) -> Tensor:
        return output if self._scale is None else output * self._scale


def _replaced(policy: RecurrentActorCriticPolicy, name: str) -> bool:
    """Whether a subclass, or the user of this object, has replaced a method."""
    return getattr(getattr(policy, name), "__func__", None) is not getattr(RecurrentActorCriticPolicy, name)


def _through(layers: Sequence[Layer], values: list[Tensor], gradient: Tensor) -> Tensor:
    """Adds the gradients of the layers' parameters; returns that of what goes in."""
    parameters: list[Any] = [parameter for layer in layers for parameter in layer[:2]]
    wanted = [True, *(parameter.requires_grad for parameter in parameters)]
    of_x = gradients_of_layers(layers, values, gradient, wanted, [parameter.grad for parameter in parameters])[0]
    assert of_x is not None
    return of_x
