"""What a large model hands to a small one (ViTPose: Xu et al. 2022, "Transferability").

Output distillation: L = MSE(student's heatmaps, teacher's heatmaps), all joints alike, on the same crops.

Token distillation, three phases:
1. train the teacher as ever, without a token;
2. `learn_token(teacher)`: one more token beside the crop's; only it is trained, against the ground truth;
3. `hand_over(teacher, student)`: the frozen token stands beside the student's tokens while the student is trained,
   against the ground truth (token distillation) and, if asked, the teacher's heatmaps as well:
   final loss = MSE(student, truth) + MSE(student, teacher).
Each is a training run of its own: `Recipe.distil` is "", then "learn_token", then "token" or "both". A teacher that has
a token uses it when it teaches by its heatmaps; the paper does not say.

# differs from paper: it does not say how a token of the teacher's width D enters a student of width d. Here a fixed
# projection does: a seeded d x D matrix with orthonormal rows, scaled so that the token's mean square per channel stays
# (equal widths: the identity; d > D: orthonormal columns, nothing lost). A *trained* linear map would make the frozen
# token a free parameter of the student, whatever the teacher had learnt: of one vector it can make any other.
Legend: B crops, K keypoints, (h, w) heatmap, D and d channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def teach(student: nn.Module, teacher: nn.Module) -> RemovableHandle:
    """Lets a student, in training, ask its teacher: its outputs then hold `teacher_heatmaps` beside `heatmaps`.

    A forward hook rather than a model around the two: the student's weights keep their names, and nothing of the
    teacher is saved, trained or averaged. The teacher is frozen and follows the crops to their device. Returns what
    ends it (`.remove()`).
    """
    frozen(teacher)

    def ask(module: nn.Module, images: tuple, asked: dict, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if not module.training:
            return outputs
        with torch.no_grad():
            return {**outputs, "teacher_heatmaps": teacher.to(images[0].device)(*images, **asked)["heatmaps"]}

    return student.register_forward_hook(ask, with_kwargs=True)


def learn_token(teacher: nn.Module) -> nn.Module:
    """Phase 2: a trained teacher in which nothing is trained but its knowledge token. Changes and returns the teacher.

    A teacher without a token gets one (normal, std 0.02). Keep it in evaluation mode, in which it is returned, while it
    is trained: batch norms then keep their statistics and no path is dropped, so the token is learnt for the teacher as
    it will be used.
    """
    backbone = frozen(teacher).backbone
    if backbone.knowledge_token is None:
        token = torch.empty(1, 1, backbone.channels, device=backbone.pos_embed.device)
        backbone.knowledge_token = nn.Parameter(nn.init.trunc_normal_(token, std=0.02))
    backbone.knowledge_token.requires_grad_(True)
    return teacher


def frozen(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, none of its parameters trained."""
    return model.requires_grad_(False).eval()


def hand_over(teacher: nn.Module, student: nn.Module, seed: int = 0) -> nn.Module:
    """Phase 3: the student with the teacher's token, fitted to its width, frozen. Changes and returns the student.

    Raises:
        ValueError: a teacher without a knowledge token.
    """
    token = teacher.backbone.knowledge_token
    if token is None:
        raise ValueError("the teacher has no knowledge token: let it learn one first, a run with distil='learn_token'")
    table = student.backbone.pos_embed
    fitted = fit_token(token.detach(), student.backbone.channels, seed).to(table.device, table.dtype)
    student.backbone.knowledge_token = nn.Parameter(fitted, requires_grad=False)
    return student


def fit_token(token: Tensor, channels: int, seed: int = 0) -> Tensor:
    """token (1, 1, D) -> (1, 1, channels) by the fixed projection of the module's docstring."""
    width = token.shape[-1]
    if width == channels:
        return token.clone()
    generator = torch.Generator().manual_seed(seed)
    square, _ = torch.linalg.qr(torch.randn(max(width, channels), min(width, channels), generator=generator))
    matrix = square.T if channels < width else square
    # Orthonormal rows keep channels / width of a token's square sum on average: exactly its mean square per channel.
    # Orthonormal columns keep all of it, spread over more channels: scaled up to the same mean square.
    scale = 1.0 if channels < width else math.sqrt(channels / width)
    return (token.float().cpu() @ matrix.T * scale).to(token.dtype)
