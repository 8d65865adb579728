"""POET's set loss: targets, matching cost and loss terms (Stoffl et al. 2021, Eq. 1 to 4, Tables 2 and 3).

A person's target vector (3 + 3 K) = [xc, yc, vc, dx_1, dy_1, v_1, ...]: centre of the visible joints, whether there is
one, offsets stored as d / 2 + 1/2, all relative to the image. Legend: L decoder layers, B images, Q queries, N people
(padded), K keypoints, M matched pairs.

The paper's equations and the published code differ. `pose_cost` chooses between them:

    term                   "paper" (Eq. 3, cost and loss)    "released" (what the published weights were trained with)
    lambda_abs    |A - A^|     L1 over visible joints          the same
    lambda_vis    |V - V^|     squared L2, each v twice        each v once; in the cost not squared
    lambda_ctr    |C - C^|     squared L2                      in the cost not squared
    lambda_deltas |Z - Z^|     L1 over visible joints          L1 of the stored offsets: half of it

`class_term="paper"` sums -log p over the queries and divides by the number of people (Eq. 4), `"released"` takes the
weighted mean. `visible="released"` calls only COCO's v = 2 visible; `"labelled"` trains the coordinates of occluded but
labelled joints (v = 1) too, which OKS scores; the visibility that the model predicts stays v = 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from posekit.losses.matching import hungarian
from posekit.models.poet import split_pose
from posekit.protocols import Losses

TERMS = ("loss_ce", "loss_kpts", "loss_ctrs", "loss_deltas", "loss_kpts_class")
NOBODY = 2  # the last class


class PoetCriterion(nn.Module):
    """The loss of POET for all decoder layers; each layer has a matching of its own.

    `w_*` are the paper's lambdas (abs, vis, ctr, deltas) and serve both the matching cost and the loss; `eos` is the
    weight of the class "nobody". `deltas_and_center` is the last column of Table 3 (L_deltas&ctrs): the offset term
    also counts the L1 distance of the centres.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        *,
        w_class: float = 1.0,
        w_abs: float = 4.0,
        w_vis: float = 0.2,
        w_ctr: float = 0.5,
        w_deltas: float = 0.5,
        eos: float = 0.1,
        pose_cost: str = "released",
        class_term: str = "released",
        visible: str = "released",
        deltas_and_center: bool = False,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("pose_cost", pose_cost, ("paper", "released")),
            ("class_term", class_term, ("paper", "released")),
            ("visible", visible, ("released", "labelled")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
        weights = {"w_class": w_class, "w_abs": w_abs, "w_ctr": w_ctr, "w_deltas": w_deltas, "w_vis": w_vis}
        for name, value in weights.items():
            if not value >= 0:
                raise ValueError(f"{name} is {value!r}: a weight of the loss is a number of at least 0")
        self.num_keypoints, self.pose_cost, self.class_term = num_keypoints, pose_cost, class_term
        self.visible, self.deltas_and_center = visible, deltas_and_center
        self.coefficients = dict(zip(TERMS, weights.values(), strict=True))
        self.register_buffer("class_weights", torch.tensor([1.0, 1.0, eos]), persistent=False)

    def forward(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Losses:
        """Terms `loss_ce` ... of the last layer, `loss_ce_0` ... of the earlier ones.

        outputs as `POET.forward` returns them; targets as the loader gives them (pixels of the network input), one
        dict per image.

        Raises:
            ValueError: targets with another number of keypoints than the model.
            FloatingPointError: predictions or targets that are not finite (from the matching).
        """
        people = self.pack(targets, outputs["logits"].device)
        terms = self.layers(outputs["logits"], outputs["pose"], people)
        last = len(outputs["logits"]) - 1
        losses = {"": {name: value[last] for name, value in terms.items()}}
        losses |= {f"_{layer}": {name: value[layer] for name, value in terms.items()} for layer in range(last)}
        if "dense_logits" in outputs:  # the extension's dense head, one more layer with many queries
            dense = self.layers(outputs["dense_logits"][None], outputs["dense_pose"][None], people)
            losses["_dense"] = {name: value[0] for name, value in dense.items()}
        named = [(name + layer, name, value) for layer, part in losses.items() for name, value in part.items()]
        weights = {full: self.coefficients[name] for full, name, _ in named}
        return Losses({full: value for full, _, value in named}, weights)

    def pack(self, targets: list[dict[str, Tensor]], device: torch.device) -> dict:
        """Targets of the batch, padded: `labels` (B, N), `vectors` (B, N, 3 + 3 K), `seen` (B, N, K), `counts`."""
        counts = [len(target["keypoints"]) for target in targets]
        for target in targets:
            if len(target["keypoints"]) and target["keypoints"].shape[1] != self.num_keypoints:
                raise ValueError(
                    f"the targets have {target['keypoints'].shape[1]} keypoints, the model {self.num_keypoints}; "
                    f"build the model with num_keypoints={target['keypoints'].shape[1]}"
                )
        k = self.num_keypoints
        keypoints = pad_sequence([t["keypoints"].reshape(-1, k, 2).float() for t in targets], batch_first=True)
        visibility = pad_sequence([t["visibility"].reshape(-1, k) for t in targets], batch_first=True)
        size = torch.stack([torch.as_tensor(t["size"]).float() for t in targets])
        keypoints, visibility, size = (x.to(device) for x in (keypoints, visibility, size))
        labels, vectors = encode_targets(keypoints, visibility, size[:, None], self.visible)
        seen = visibility == 2 if self.visible == "released" else visibility > 0
        return {"labels": labels, "vectors": vectors, "seen": seen.float(), "counts": counts}

    def layers(self, logits: Tensor, pose: Tensor, people: dict) -> dict[str, Tensor]:
        """The five terms, each (L,), for logits (L, B, Q, C) and pose (L, B, Q, 2 + 3 K)."""
        pairs = hungarian(sum(self.cost(logits, pose, people).values()), people["counts"])
        return self.losses(logits, pose, people, pairs)

    @torch.no_grad()
    def cost(self, logits: Tensor, pose: Tensor, people: dict) -> dict[str, Tensor]:
        """The weighted parts of the matching cost (Eq. 1), each (L, B, Q, N), under the names of the loss terms."""
        parts = pose_terms(pose[..., None, :], people["vectors"][:, None], people["seen"][:, None])
        if self.pose_cost == "paper":
            parts["loss_kpts_class"] *= 2
            parts["loss_deltas"] *= 2
        else:  # differs from paper: Eq. 1 and 4 share one squared L_pose
            parts["loss_ctrs"], parts["loss_kpts_class"] = parts["loss_ctrs"].sqrt(), parts["loss_kpts_class"].sqrt()
        if self.deltas_and_center:
            parts["loss_deltas"] = parts["loss_deltas"] + parts["centers_l1"]
        index = people["labels"][:, None].expand(-1, logits.shape[2], -1).expand(len(logits), -1, -1, -1)
        parts["loss_ce"] = -logits.softmax(-1).gather(-1, index)
        return {name: self.coefficients[name] * parts[name] for name in TERMS}

    def losses(self, logits: Tensor, pose: Tensor, people: dict, pairs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The five unweighted terms, each (L,), for given pairs (layer, image, query, person)."""
        layer, image, query, person = pairs
        num_people = max(sum(people["counts"]), 1)
        parts = pose_terms(pose[layer, image, query], people["vectors"][image, person], people["seen"][image, person])
        if self.deltas_and_center:
            parts["loss_deltas"] = parts["loss_deltas"] + parts["centers_l1"]
        scale = {"loss_kpts_class": 2, "loss_deltas": 2} if self.pose_cost == "paper" else {}
        terms = {"loss_ce": self.class_loss(logits, people, pairs, num_people)}
        for name in TERMS[1:]:
            total = torch.zeros(len(logits), device=pose.device).index_add(0, layer, parts[name].float())
            terms[name] = scale.get(name, 1) * total / num_people
        return terms

    def class_loss(self, logits: Tensor, people: dict, pairs: tuple[Tensor, ...], num_people: int) -> Tensor:
        """Negative log-likelihood of the classes (L,); queries without a person should say "nobody"."""
        layer, image, query, person = pairs
        wanted = torch.full(logits.shape[:-1], NOBODY, device=logits.device)
        wanted[layer, image, query] = people["labels"][image, person]
        weight = self.class_weights[wanted]
        loss = -weight * logits.float().log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
        # differs from paper: Eq. 4 sums over the queries, the released code takes the weighted mean
        scale = weight.sum((1, 2)) if self.class_term == "released" else num_people
        return loss.sum((1, 2)) / scale


def pose_terms(pose: Tensor, vectors: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """Distances of predictions and people, summed over the joints; leading shapes broadcast.

    pose (..., 2 + 3 K), vectors (..., 3 + 3 K), seen (..., K) in {0, 1}: whose coordinates count. Offsets are
    compared as stored, so at half scale. A person without a centre (vc = 0) costs nothing.
    """
    center, keypoints, visibility = split_pose(pose)
    has_center = vectors[..., 2]
    true_center, true_keypoints, true_visibility = split_pose(torch.cat([vectors[..., :2], vectors[..., 3:]], -1))
    weight = seen * has_center[..., None]
    # offset = stored offset * 2 - 1; half the difference of offsets is the difference of the stored ones
    offset = (keypoints - center[..., None, :]) - (true_keypoints - true_center[..., None, :])
    return {
        "loss_kpts": ((keypoints - true_keypoints).abs().sum(-1) * weight).sum(-1),
        "loss_deltas": (offset.abs().sum(-1) * weight).sum(-1) / 2,
        "loss_ctrs": (center - true_center).square().sum(-1) * has_center,
        "loss_kpts_class": (visibility - true_visibility).square().sum(-1) * has_center,
        "centers_l1": (center - true_center).abs().sum(-1) * has_center,
    }


def encode_targets(
    keypoints: Tensor, visibility: Tensor, size: Tensor, visible: str = "released"
) -> tuple[Tensor, Tensor]:
    """People as the loss sees them: labels (...) and vectors (..., 3 + 3 K), see the module's docstring.

    keypoints (..., K, 2) pixels, visibility (..., K) in {0, 1, 2}, size (..., 2) = (width, height) of the image.
    The centre is the mean of the visible joints. Label 1 = person; 0 = person without a visible joint.
    """
    seen = (visibility == 2 if visible == "released" else visibility > 0).to(keypoints.dtype)
    count = seen.sum(-1, keepdim=True)
    center = (keypoints * seen[..., None]).sum(-2) / count.clamp(min=1)
    has_center = (count > 0).to(keypoints.dtype)
    offsets = keypoints - center[..., None, :]
    if visible == "released":
        # differs from paper: the released rule asks whether the first joint's offset sums to zero, which is so for an
        # empty person, for one with occluded joints only and no first joint, and for a joint on the anti-diagonal
        labels = (offsets[..., 0, :].sum(-1) != 0).long()
        has_center = has_center * (center != 0).all(-1, keepdim=True)
    else:
        labels = (count[..., 0] > 0).long()
    joints = torch.cat([offsets / size[..., None, :] / 2 + 0.5, (visibility == 2).to(offsets)[..., None]], -1)
    return labels, torch.cat([center / size, has_center, joints.flatten(-2)], -1)
