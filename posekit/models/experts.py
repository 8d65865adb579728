"""The feed-forward part of a transformer block: plain, and split between data sets as in ViTPose+.

ViTPose+ (Xu et al. 2023, arXiv 2212.04246): the second layer is cut by output channels. The first C - P channels come
from a layer that all data sets share, the last P from the expert of the sample's data set; joined again they are as
wide as before, so for one data set the two are one plain layer (`Experts.merged`), at no cost.

Legend: B samples, T tokens, C channels, F = 4 C hidden channels, E experts of P channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, dataset: int | Tensor = 0) -> Tensor:
        """x (B, T, C) -> (B, T, C); `dataset` changes nothing."""
        return self.fc2(F.gelu(self.fc1(x)))


class Experts(nn.Module):
    """The feed-forward part of ViTPose+; see the module's docstring."""

    def __init__(self, dim: int, hidden: int, experts: int, part: int) -> None:
        super().__init__()
        if not 0 < part < dim:
            raise ValueError(f"experts of {part} channels: choose between 1 and {dim - 1}, {dim} are to be shared out")
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim - part)
        self.experts = nn.ModuleList(nn.Linear(hidden, part) for _ in range(experts))

    def forward(self, x: Tensor, dataset: int | Tensor = 0) -> Tensor:
        """x (B, T, C), dataset: one index for all samples or (B,) int64 -> (B, T, C)."""
        hidden = F.gelu(self.fc1(x))
        shared = self.fc2(hidden)
        if not isinstance(dataset, Tensor):
            return torch.cat([shared, self.experts[dataset](hidden)], -1)
        own = shared.new_empty(*shared.shape[:2], self.experts[0].out_features)
        for index in dataset.unique().tolist():  # a sample passes its own expert only
            rows = (dataset == index).nonzero()[:, 0]
            own = own.index_copy(0, rows, self.experts[index](hidden[rows]).to(own.dtype))
        return torch.cat([shared, own], -1)

    @torch.no_grad()
    def merged(self, index: int) -> FeedForward:
        """The plain layer that does what this one does for data set `index`."""
        expert = self.experts[index]
        plain = FeedForward(self.fc1.in_features, self.fc1.out_features)
        plain = plain.to(self.fc1.weight)
        plain.fc1.load_state_dict(self.fc1.state_dict())
        plain.fc2.weight.copy_(torch.cat([self.fc2.weight, expert.weight]))
        plain.fc2.bias.copy_(torch.cat([self.fc2.bias, expert.bias]))
        return plain
