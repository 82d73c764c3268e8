"""Classes in their order: conditional probabilities of passing each next grade.

Output k is the logit of P(y > k | y > k - 1), so that P(y > k) is a product and can only fall with
k: rank-consistent, as in CORN (Shi, Cao and Raschka, Deep neural networks for rank-consistent
ordinal regression based on conditional probabilities, 2023). The negative log-likelihood of an
image is the sum of the losses of CORN's binary tasks that it takes part in.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mammography.training.objective import Objective


def log_probabilities(logits: Tensor) -> Tensor:
    """Logits (batch, classes - 1) to log P(y = k), (batch, classes)."""
    passed = functional.logsigmoid(logits).cumsum(1)
    stayed = functional.logsigmoid(-logits)
    start = torch.zeros_like(logits[:, :1])
    return torch.cat([start, passed], 1) + torch.cat([stayed, start], 1)


PLUGIN = Objective(outputs=lambda classes: classes - 1, log_probabilities=log_probabilities)
