"""The layer between a core's outputs and what an online learner predicts, with its loss's gradient.

Dimensions: T steps of a window, B rows, N numbers in an output of the core, C numbers in one of the head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sab_agents.kernels import head_gradient
from sab_agents.online.targets import Targets
from sab_agents.online.window_labels import WindowLabels


class Head(nn.Linear):
    """A linear layer that learns without a graph.

    Args:
        input_size: N.
        targets: what is predicted.
    """

    def __init__(self, input_size: int, targets: Targets) -> None:
        super().__init__(input_size, targets.size)
        self.targets = targets

    @torch.no_grad()
    def predicted(self, output: Tensor) -> Tensor:
        """Numbers (B, C) for outputs (B, N)."""
        return self.forward(output)

    @torch.no_grad()
    def gradient(self, outputs: Tensor, labels: WindowLabels) -> Tensor:
        """Adds the gradient of the mean loss of a window to the head's; returns that of the outputs (T, B, N)."""
        place, target = labels.picked()
        found = head_gradient(self.targets.loss, self.weight, self.bias, outputs, place, target)
        if found is not None:
            return found
        flat = outputs.flatten(0, 1)
        if place is not None:
            place = place.to(outputs.device)
        chosen = flat if place is None else flat[place]
        gradient = self.targets.gradient(self.predicted(chosen), target.to(outputs.device))
        if self.weight.grad is not None:
            self.weight.grad.addmm_(gradient.t(), chosen)
        if self.bias.grad is not None:
            self.bias.grad += gradient.sum(dim=0)
        back = gradient @ self.weight
        if place is not None:
            back = torch.zeros_like(flat).index_copy_(0, place, back)
        return back.view(outputs.shape)
