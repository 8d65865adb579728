"""The graphs that the playground's page runs: the shipped models in ONNX's format, with what the page shows of them.

`posekit.export` gives ViTPose as it is. The page lets a reader move thresholds and look inside, so the two others end
elsewhere than deployed graphs do: RTMO before the suppression, with its coordinate classifier as a graph of its own
that also gives the heatmaps, POET with the cross-attention of its decoder. Coordinates: COCO pixels of the network's
input throughout; `posekit.pixels` is applied here, so that the page knows one convention.

Legend: N cells, M people, K keypoints, P pose features, Q queries, L decoder layers, S image tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import posekit
from posekit.export import graph, needed, traced
from posekit.models.poet import POET
from posekit.models.rtmo import RTMO
from posekit.pixels import from_pixel_index, to_pixel_index

LARGE = 256  # numbers of a constant that is worth it


class Cells(nn.Module):
    """RTMO up to the suppression."""

    def __init__(self, model: RTMO) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (1, 3, S, S) normalised -> scores (N,), boxes (N, 4) x0 y0 x1 y1 px, visibility (N, K), features
        (N, P), cells (N, 2) px."""
        out = self.model(images, proxies=False)
        boxes, cells = from_pixel_index(out["boxes"][0]), from_pixel_index(out["priors"][:, :2])
        return out["cls_logits"][0].sigmoid(), boxes, out["vis_logits"][0].sigmoid(), out["pose_features"][0], cells


class Classifier(nn.Module):
    """RTMO's Dynamic Coordinate Classifier (section 3.1) for the people that are left."""

    def __init__(self, model: RTMO) -> None:
        super().__init__()
        self.classifier = model.classifier

    def forward(self, features: Tensor, boxes: Tensor, cells: Tensor) -> tuple[Tensor, ...]:
        """features (M, P), boxes (M, 4) px, cells (M, 2) px -> keypoints (M, K, 2) px, heatmap_x (M, K, Bx),
        heatmap_y (M, K, By), bins_x (M, Bx) px, bins_y (M, By) px."""
        found = self.classifier(features, to_pixel_index(boxes), to_pixel_index(cells))
        keypoints, bins_x, bins_y = (from_pixel_index(found[name]) for name in ("keypoints", "bins_x", "bins_y"))
        return keypoints, found["heatmap_x"], found["heatmap_y"], bins_x, bins_y


class Queries(nn.Module):
    """POET with its decoder's cross-attention, the mean over the heads."""

    def __init__(self, model: POET) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, padding_mask: Tensor) -> tuple[Tensor, ...]:
        """images (1, 3, S, S), padding_mask (1, S, S) True = padding -> keypoints (Q, K, 2), visibility (Q, K), scores
        (Q,) and centers (Q, 2), places relative to the network's input, attention (L, Q, S)."""
        out = self.model(images, padding_mask, attention=True)
        people = self.model.people(out)
        attention = out["decoder_attention"][:, 0].mean(1)
        return *(people[name][0] for name in ("keypoints", "visibility", "scores", "centers")), attention


def graphs() -> tuple[dict[str, bytes], dict[str, nn.Module]]:
    """(file name -> graph, model name -> the PyTorch model with the weights that come with the book).

    Raises:
        ModuleNotFoundError: the package `onnx` is missing.
    """
    onnx = needed("onnx")
    models = {name: posekit.load(name, "scenes") for name in ("rtmo_tiny", "poet_tiny", "vitpose_tiny")}
    rtmo, poet = (models[name].fuse().cpu().float() for name in ("rtmo_tiny", "poet_tiny"))

    def written(network: nn.Module, arguments: dict[str, Tensor], outputs: str, axes: dict | None = None) -> bytes:
        made = traced(onnx, network.eval(), arguments, outputs.split(), axes or {})
        return compact(onnx, made)

    square = torch.zeros(1, 3, rtmo.input.size, rtmo.input.size)
    cells = Cells(rtmo)
    with torch.no_grad():
        *_, features, places = cells(square)
    people = {"features": features[:2], "boxes": torch.tensor([[8.0, 8.0, 40.0, 90.0]] * 2), "cells": places[:2]}
    outputs = "keypoints heatmap_x heatmap_y bins_x bins_y"
    files = {
        "rtmo_cells.onnx": written(cells, {"images": square}, "scores boxes visibility features cells"),
        "rtmo_people.onnx": written(
            Classifier(rtmo), people, outputs, {name: {0: "people"} for name in [*people, *outputs.split()]}
        ),
    }
    square = torch.zeros(1, 3, poet.input.size, poet.input.size)
    arguments = {"images": square, "padding_mask": square[:, 0] > 0}
    files["poet.onnx"] = written(Queries(poet), arguments, "keypoints visibility scores centers attention")
    files["vitpose.onnx"] = compact(onnx, onnx.load_from_string(graph(models["vitpose_tiny"])))
    return files, models


def compact(onnx, made) -> bytes:
    """The same graph, smaller: constants that 16 bits hold without loss are stored so, and cast when it is loaded.

    The shipped weights are such numbers; those of convolutions that took up a batch norm no longer are.
    """
    casts = []
    for constant in made.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype != np.float32 or values.size < LARGE:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if (half == values).all():
            name = constant.name
            constant.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}_half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    onnx.checker.check_model(made)
    return made.SerializeToString()
