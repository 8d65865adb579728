"""RTMO's assignment and criterion: published values, a plain reading of SimOTA, crowds, empty pictures, bad input."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import rtmo_steps
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from posekit.layouts import COCO
from posekit.losses.assignment import assign
from posekit.losses.overlaps import box_iou, pose_oks
from posekit.losses.rtmo import PUBLISHED, RtmoCriterion, encode_boxes, score_weights
from posekit.losses.targets import pack_people
from posekit.models.rtmo import rtmo_tiny

GOLDEN = Path(__file__).parent / "golden" / "rtmo"
K, SIZE = 5, 128
SIGMAS = torch.tensor([0.03, 0.05, 0.07, 0.09, 0.1])
PRIORS = torch.cat(
    [
        torch.cartesian_prod(torch.arange(SIZE // s), torch.arange(SIZE // s), torch.tensor([1]))[:, [1, 0, 2]] * s
        + torch.tensor([(s - 1) / 2, (s - 1) / 2, 0])
        for s in (16, 32)
    ]
)
NOBODY = {
    "keypoints": torch.zeros(0, K, 2),
    "visibility": torch.zeros(0, K),
    "boxes": torch.zeros(0, 4),
    "areas": torch.zeros(0),
    "ignore": torch.zeros(0, 4),
}


def crowd(seed=0, n=3, keypoints=K):
    """A target in COCO's frame."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 70, (n, 2))
    size = rng.uniform(25, 58, (n, 2))
    visibility = rng.integers(0, 3, (n, keypoints))
    visibility[:, 0] = 2
    return {
        "keypoints": torch.tensor(low[:, None] + rng.uniform(0, 1, (n, keypoints, 2)) * size[:, None]).float(),
        "visibility": torch.tensor(visibility),
        "boxes": torch.tensor(np.hstack([low, low + size])).float(),
        "areas": torch.tensor(0.53 * size.prod(1)).float(),
        "ignore": torch.zeros(0, 4),
    }


class Exact(torch.nn.Module):
    """A classifier that knows the answers: pose features hold the keypoints; heatmaps peak there."""

    def __init__(self, heatmaps=True, sigma=0.05):
        super().__init__()
        self.heatmaps, self.sigma = heatmaps, sigma

    def forward(self, features, boxes, grids):
        keypoints = features.unflatten(1, (K, 2))
        result = {"keypoints": keypoints}
        if self.heatmaps:
            bins = torch.arange(-40.0, SIZE + 40).expand(len(boxes), -1)
            for axis, name in enumerate("xy"):
                distance = (bins[:, None] - keypoints[..., axis, None]).abs()
                result |= {f"bins_{name}": bins, f"heatmap_{name}": (-distance).softmax(-1)}
            result["sigmas"] = torch.full(keypoints.shape[:2], self.sigma)
        return result


def outputs_for(targets, seed=0, noise=8.0):
    """Outputs near the truth: every prior sees the person whose box's middle is nearest."""
    generator = torch.Generator().manual_seed(seed)

    def around(x, scale):
        return (x + scale * torch.randn(x.shape, generator=generator)).requires_grad_()

    boxes, poses = [], []
    for target in targets:
        people = target if len(target["boxes"]) else crowd()
        middle = (people["boxes"][:, :2] + people["boxes"][:, 2:]) / 2
        who = torch.cdist(PRIORS[:, :2], middle).argmin(1)
        boxes.append(people["boxes"][who] - 0.5)
        poses.append(people["keypoints"][who] - 0.5)
    boxes, poses = torch.stack(boxes), torch.stack(poses)
    return {
        "cls_logits": around(torch.zeros(boxes.shape[:2]), 1.0),
        "boxes": around(boxes, noise / 4),
        "box_raw": around(encode_boxes(boxes.flatten(0, 1), PRIORS.repeat(len(boxes), 1)).view(boxes.shape), 0.1),
        "vis_logits": around(torch.zeros(poses.shape[:3]), 1.0),
        "proxy_keypoints": around(poses, noise),
        "pose_features": around(poses.flatten(2), noise / 4),
        "priors": PRIORS,
    }


def criterion(classifier=None, **options):
    return RtmoCriterion(classifier or Exact(), SIGMAS, **options)


def test_a_whole_step_agrees_with_the_published_code():
    """The small model with weights by rule: terms, total and a gradient for three cases of the stages."""
    with np.load(GOLDEN / "loss_s_256x256.npz") as file:
        arrays = {name: file[name] for name in file.files}
    meta = {"variant": "s", "weight_salt": "", "height": 256, "width": 256, "batch": 2}
    meta["options"] = rtmo_steps.options_of(arrays)
    assert meta["options"] == PUBLISHED["coco_s"]
    model = rtmo_steps.filled(meta, 17)
    pixels = np.random.Generator(np.random.PCG64(20)).uniform(0, 255, (2, 3, 256, 256)).astype(np.float32)
    targets = {case: rtmo_steps.targets_of(arrays, case) for case in ("stage1", "stage2_aux_mask", "no_gt")}
    ours = rtmo_steps.run(model, pixels[:, ::-1].copy(), targets, meta, "eval")
    for case in targets:
        names = [n for n in arrays if n.startswith(f"eval.{case}.") and "gradnorm" not in n]
        assert len(names) >= 3
        for name in [*names, f"eval.{case}.gradnorm.head.head_module.out_cls.0.weight"]:
            assert ours[name] == pytest.approx(arrays[name], rel=1e-3, abs=1e-5), name


def plain_simota(logits, boxes, keypoints, target, center, dynamic_k):
    """The same rule for one image, person by person, in plain words; last: is it clear to float32?"""
    people = pack_people([target], K)
    n, persons = len(PRIORS), len(target["boxes"])
    owner, similarity = np.full(n, -1), np.zeros(n)
    inside, near = np.zeros((n, persons), bool), np.zeros((n, persons), bool)
    oks, iou = np.zeros((n, persons)), np.zeros((n, persons))
    for g in range(persons):
        x0, y0, x1, y1 = people.boxes[0, g].tolist()
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        if center == "keypoints":
            middle = people.keypoints[0, g][people.visible[0, g] > 0].mean(0).numpy()
        for i, (x, y, stride) in enumerate(PRIORS.tolist()):
            inside[i, g] = x0 < x < x1 and y0 < y < y1
            near[i, g] = max(abs(x - middle[0]), abs(y - middle[1])) < 2.5 * stride
        args = people.keypoints[0, g], people.visible[0, g], people.areas[0, g], SIGMAS
        oks[:, g] = pose_oks(keypoints, *args).numpy()
        iou[:, g] = box_iou(boxes, people.boxes[0, g]).numpy()
    candidates = np.flatnonzero((inside | near).any(1))
    score = np.sqrt(1 / (1 + np.exp(-logits.double().numpy())))
    cost = 1e5 * ~(inside & near) - 3 * np.log(iou + 1e-7) - 3 * np.log(oks + 1e-7) - np.log(score)[:, None]
    overlap = oks if dynamic_k == "oks" else iou
    asked, clear = {i: [] for i in candidates}, True

    def differ(a, b):  # costs above 1e5 have steps of 1/128
        return abs(a - b) > (0.02 if min(a, b) > 1e4 else 1e-3)

    for g in range(persons):
        total = np.sort(overlap[candidates, g])[-10:].sum()
        k, order = max(int(total), 1), candidates[np.argsort(cost[candidates, g], kind="stable")]
        clear &= abs(total - round(total)) > 1e-3
        clear &= len(order) <= k or differ(cost[order[k - 1], g], cost[order[k], g])
        for i in order[:k]:
            asked[i].append(g)
    for i, by in asked.items():
        if by:
            owner[i] = by[0] if len(by) == 1 else int(cost[i].argmin())
            similarity[i] = overlap[i, owner[i]]
            clear &= len(by) == 1 or differ(*np.sort(cost[i])[:2])
    return owner, similarity, clear


@pytest.mark.parametrize(("center", "dynamic_k"), [("box", "oks"), ("keypoints", "oks"), ("box", "iou")])
@settings(deadline=None, max_examples=12)
@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 10_000))
def test_the_batch_is_assigned_as_the_rule_says_person_by_person(center, dynamic_k, counts, seed):
    targets = [crowd(seed + b, n) for b, n in enumerate(counts)]
    outputs = {n: x.detach() if torch.is_tensor(x) else x for n, x in outputs_for(targets, seed, noise=3).items()}
    person, overlap = assign(
        outputs["cls_logits"],
        outputs["boxes"],
        outputs["proxy_keypoints"],
        PRIORS,
        pack_people(targets, K),
        SIGMAS,
        center=center,
        dynamic_k=dynamic_k,
    )
    for b, target in enumerate(targets):
        given_ = (outputs[name][b] for name in ("cls_logits", "boxes", "proxy_keypoints"))
        owner, similarity, clear = plain_simota(*given_, target, center, dynamic_k)
        assume(clear)
        assert person[b].tolist() == owner.tolist()
        assert overlap[b].numpy() == pytest.approx(similarity, abs=1e-5)


def test_a_person_far_outside_the_picture_leaves_the_others_alone():
    target, far = crowd(0, 2), crowd(1, 1)
    far = {**far, "boxes": far["boxes"] + 5000, "keypoints": far["keypoints"] + 5000}
    both = {name: torch.cat([target[name], far[name]]) for name in target}
    terms = criterion()(outputs_for([target]), [both]).terms
    assert all(value.isfinite() for value in terms.values())
    assert all(value.isfinite() for value in criterion()(outputs_for([far]), [far]).terms.values())


def test_exact_outputs_cost_no_more_than_the_joints_that_do_not_count():
    targets = [crowd(0), crowd(1, 2)]
    outputs = outputs_for(targets, noise=0.0)
    loss = criterion(auxiliary=True)
    people = pack_people(targets, K)
    person, overlap = loss.assign(outputs, people)
    parts, overlap = loss.per_positive(outputs, people, person, overlap)
    image, prior = (person >= 0).nonzero(as_tuple=True)
    hidden = 1 - people.visible[image, person[image, prior]].mean(-1)
    assert len(image) > 10 and set(image.tolist()) == {0, 1}
    assert overlap.detach().numpy() == pytest.approx(1, abs=1e-5)
    assert parts["loss_bbox"].detach().numpy() == pytest.approx(0, abs=1e-4)
    assert parts["loss_oks"].detach().numpy() == pytest.approx(hidden.numpy(), abs=1e-5)
    near = loss(outputs_for(targets, noise=0.0), targets).terms
    far = loss(outputs_for(targets, noise=6.0), targets).terms
    for name in ("loss_bbox", "loss_oks", "loss_mle"):
        assert near[name] < far[name], name


def test_half_a_pixel_lies_between_the_frames():
    target = crowd(0, 1)
    people = pack_people([target], K)
    assert torch.equal(people.boxes[0], target["boxes"] - 0.5)
    assert torch.equal(people.keypoints[0], target["keypoints"] - 0.5)


@pytest.mark.parametrize("targets", [[NOBODY, NOBODY], [{**NOBODY, "ignore": torch.tensor([[0.0, 0, 128, 70]])}] * 2])
@pytest.mark.parametrize("stage", [1, 2])
def test_pictures_without_people_train_the_score_alone(targets, stage):
    outputs = outputs_for(targets)
    losses = criterion(stage=stage, auxiliary=True)(outputs, targets)
    terms, total = losses.terms, losses.total
    assert set(terms) == set(losses.weights)
    total.backward()
    assert total.isfinite() and terms["loss_cls"] > 0
    assert all(terms[name].item() == 0 for name in terms if name != "loss_cls")
    assert outputs["cls_logits"].grad.abs().sum() > 0
    assert all(outputs[name].grad.abs().sum() == 0 for name in ("boxes", "proxy_keypoints", "vis_logits"))


def test_regions_to_ignore_do_not_train_the_score_but_people_inside_do():
    target = {**crowd(0, 2), "ignore": torch.tensor([[0.0, 0, 128, 128]])}
    outputs = outputs_for([target], noise=0.0)
    people = pack_people([target], K)
    person, _ = criterion().assign(outputs, people)
    weight = score_weights(outputs, people, person)
    assert 0 < int((person >= 0).sum()) < person.numel()
    assert torch.equal(weight > 0, person >= 0)
    criterion()(outputs, [target]).terms["loss_cls"].backward()
    assert torch.equal(outputs["cls_logits"].grad != 0, person >= 0)


def test_the_pose_and_not_the_cell_says_what_lies_in_a_region():
    outputs = outputs_for([NOBODY], noise=0.0)
    outputs["proxy_keypoints"] = torch.full_like(outputs["proxy_keypoints"], 20.0)
    outputs["vis_logits"] = torch.full_like(outputs["vis_logits"], 3.0)
    people = pack_people([{**NOBODY, "ignore": torch.tensor([[10.0, 10, 30, 30]])}], K)
    nobody = torch.full((1, len(PRIORS)), -1)
    assert score_weights(outputs, people, nobody).sum() == 0
    outputs["vis_logits"] = -outputs["vis_logits"]  # no joint to see: then the cell's own place counts
    inside = ((PRIORS[:, :2] > 9.5) & (PRIORS[:, :2] < 29.5)).all(1)
    assert torch.equal(score_weights(outputs, people, nobody)[0] == 0, inside)
    assert 0 < int(inside.sum()) < len(PRIORS)


def test_a_person_without_labelled_joints_is_a_region_to_ignore():
    target = crowd(0, 3)
    target["visibility"][1] = 0
    people = pack_people([target, NOBODY], K)
    assert people.exists.sum(1).tolist() == [2, 0]
    assert torch.equal(people.ignore[0], target["boxes"][[1]] - 0.5)


def test_the_second_stage_teaches_the_proxies_the_decoded_poses():
    targets = [crowd(0, 2)]
    outputs = outputs_for(targets, noise=4.0)
    with torch.no_grad():
        outputs["pose_features"] += 3.0  # the decoded poses are all wrong the same way
    first, second = criterion(), criterion(stage=2)
    people = pack_people(targets, K)
    person, overlap = first.assign(outputs, people)
    image, prior = (person >= 0).nonzero(as_tuple=True)
    truth = people.keypoints[image, person[image, prior]]
    decoded = outputs["pose_features"][image, prior].unflatten(1, (K, 2))
    proxies = outputs["proxy_keypoints"][image, prior]
    gradients = []
    for loss in (first, second):
        parts, matched = loss.per_positive(outputs, people, person, overlap)
        gradients.append(torch.autograd.grad(parts["loss_oks"].sum(), outputs["proxy_keypoints"])[0][image, prior])
        assert matched.max() <= 1 and (matched.detach() == overlap[image, prior]).all() == (loss is first)
    # downhill is towards the goal, and in stage 2 only joints move that the decoded pose has better
    better = (proxies - truth).norm(dim=-1) > (decoded - truth).norm(dim=-1)
    visible = people.visible[image, person[image, prior]] > 0
    assert ((gradients[0] * (proxies - truth)).sum(-1) >= 0).all()
    assert ((gradients[1] * (proxies - decoded)).sum(-1) >= 0).all()
    assert (gradients[1][~(better & visible)] == 0).all() and (gradients[1][better & visible] != 0).any()


def test_the_score_learns_the_similarity_to_the_power_of_the_stage():
    targets = [crowd(0)]
    outputs = outputs_for(targets)
    people = pack_people(targets, K)
    person, overlap = criterion().assign(outputs, people)
    found = overlap[person >= 0]
    ones = torch.ones_like(person, dtype=torch.float32)
    logits = torch.full(person.shape, -12.0)
    for stage, power in ((1, 0.5), (2, 1.0)):
        score = torch.where(person >= 0, (overlap**power).logit(eps=1e-6), -12.0)
        loss = criterion(overlaps_power=(0.5, 1.0), stage=stage)
        right = loss.terms(score, person, {}, found, ones)["loss_cls"]
        for wrong in (score + 0.5, score - 0.5, logits):
            assert loss.terms(wrong, person, {}, found, ones)["loss_cls"] > right


DECODINGS = {"dcc": {}, "regression": {"coordinate_loss": "oks"}}


def gain_of_two_pictures(decoding, seed=0, steps=40) -> float:
    """By which share the loss of two pictures falls in the first stage; one step of the second follows."""
    torch.manual_seed(seed)
    model = rtmo_tiny(decoding=decoding).train()
    targets = [crowd(2 * seed, 2, 17), crowd(2 * seed + 1, 1, 17)]
    images = torch.rand(2, 3, SIZE, SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for stage in [1] * steps + [2]:
        loss = RtmoCriterion(model.classifier, COCO.sigmas, stage=stage, auxiliary=True, **DECODINGS[decoding])
        total = loss(model(images), targets).total
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        totals.append(total.item())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    return 1 - sum(totals[-6:-1]) / sum(totals[:5])


@pytest.mark.learning
@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_small_model_learns_two_pictures(decoding):
    assert gain_of_two_pictures(decoding) > 0.1
