"""An extension of POET, not part of the paper: queries chosen from the encoder's tokens.

Every token of the encoder proposes a person and a pose (`DenseHead`); the Q best become the decoder's queries, and each
decoder layer refines the pose of the one before (`Proposals`). The idea is that of two-stage Deformable DETR (Zhu et
al. 2021) and PETR (Shi et al. 2022). Legend as in `poet.py`; T image tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posekit.models.transformer import Maps, sine_position


class DenseHead(nn.Module):
    """Class and pose of every token, the centre relative to the token's own place."""

    def __init__(self, dim: int, num_keypoints: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 3)
        self.pose = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 2 + 3 * num_keypoints))

    def forward(self, memory: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """memory (B, T, D), padding (1 or B, h, w) True = padding -> logits (B, T, 3), pose (B, T, 2 + 3 K) before the
        sigmoid."""
        real = ~padding
        grid = torch.stack([real.cumsum(2) - 0.5, real.cumsum(1) - 0.5], -1)  # the middle of each token, in tokens
        grid = (grid / torch.stack([real.sum(2).amax(1), real.sum(1).amax(1)], -1)[:, None, None]).flatten(1, 2)
        pose = self.pose(memory)
        anchored = torch.cat([pose[..., :2] + torch.logit(grid.clamp(1e-3, 1 - 1e-3)), pose[..., 2:]], -1)
        return self.score(memory), anchored


class Proposals(nn.Module):
    """Decoding from the best tokens of a dense head."""

    def __init__(self, dim: int, num_queries: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.place = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(
        self,
        poet: nn.Module,
        dense: tuple[Tensor, Tensor],
        memory: Tensor,
        position: Tensor,
        mask: Tensor | None,
        maps: Maps,
    ) -> tuple[Tensor, Tensor]:
        """dense: what the dense head returned -> logits (L, B, Q, 3), pose (L, B, Q, 2 + 3 K)."""
        (logits, anchored), dim = dense, memory.shape[-1]
        rank = logits.detach().softmax(-1)[..., 1]
        if mask is not None:
            rank = rank.masked_fill(~mask[:, 0, 0], -1)
        best = rank.topk(min(self.num_queries, rank.shape[1])).indices[..., None]
        x, reference = (part.gather(1, best.expand(-1, -1, part.shape[-1])).detach() for part in (memory, anchored))
        memory_key = memory + position
        all_logits, poses = [], []
        for layer in poet.transformer.decoder.layers:
            center = reference[..., :2].sigmoid()
            queries = self.place(sine_position(center[..., 0], center[..., 1], dim))
            x = layer(x, queries, memory, memory_key, mask, maps)
            state = poet.transformer.decoder.norm(x)
            refined = reference + poet.kpt_embed(state)
            all_logits.append(poet.class_embed(state))
            poses.append(refined.sigmoid())
            reference = refined.detach()
        return torch.stack(all_logits), torch.stack(poses)
