"""Gradient inversion: pictures worked out from what training shows.

From the first layer, exactly: Phong et al. 2018 (a neuron's weight gradient is its inputs times its bias gradient);
Fowl et al. 2022, "Robbing the Fed" (trap weights: neurons that differ in their thresholds only).  By search, for any
network: Zhu et al. 2019 (DLG), Zhao et al. 2020 (iDLG: the label stands in the signs), Geiping et al. 2020 (direction
of the gradient, total variation).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.perceptron import F32, F64, I64, Perceptron

SAME = 20.0
"""From this PSNR on, in dB, a person sees the same picture."""

BEST = 60.0
"""PSNR of pictures that are the same to the last digits of float32."""


# ---------------------------------------------------------------------------------------------------------- scores


@dataclass(frozen=True)
class Score:
    """How well pictures were recovered: means over the originals, each beside its best match.

    Attributes:
        psnr: peak signal-to-noise ratio in dB, up to 60.
        ssim: structural similarity (Wang et al. 2004), over the whole picture.
        recovered: share of the originals with 20 dB or more.
        pictures: the best matches, (n, p).
    """

    psnr: float
    ssim: float
    recovered: float
    pictures: F64


def psnr(original: NDArray, found: NDArray) -> F64:
    """Return the PSNR in dB over the last axis, for values from 0 to 1."""
    error = np.mean((np.asarray(original, np.float64) - found) ** 2, axis=-1)
    return np.minimum(-10 * np.log10(np.maximum(error, 1e-12)), BEST)


def ssim(original: NDArray, found: NDArray) -> F64:
    """Return the structural similarity over the last axis, for values from 0 to 1."""
    a, b = np.asarray(original, np.float64), np.asarray(found, np.float64)
    mean_a, mean_b = a.mean(axis=-1), b.mean(axis=-1)
    both = (a * b).mean(axis=-1) - mean_a * mean_b
    light, contrast = 0.01**2, 0.03**2
    above = (2 * mean_a * mean_b + light) * (2 * both + contrast)
    return above / ((mean_a**2 + mean_b**2 + light) * (a.var(axis=-1) + b.var(axis=-1) + contrast))


def score(originals: NDArray, found: NDArray) -> Score:
    """Compare every original, (n, p), with the candidate that comes nearest to it, of (m, p)."""
    pictures = np.clip(found, 0, 1) if len(found) else np.zeros((1, originals.shape[1]))
    best = np.array([int(np.argmax(psnr(one, pictures))) for one in originals])
    near = pictures[best]
    values = psnr(originals, near)
    return Score(float(values.mean()), float(ssim(originals, near).mean()), float(np.mean(values >= SAME)), near)


# ----------------------------------------------------------------------------------------------- from the first layer


def inputs_of_neurons(weights: NDArray, biases: NDArray) -> F64:
    """Return what each neuron saw: its weight update divided by its bias update, (m, p).

    It is the input itself if one row reached the neuron, and else a weighted mean.  Neurons that no row reached are
    left out.

    Args:
        weights: (h, p) update of the first layer, or its gradient.
        biases: (h,).
    """
    w, b = np.asarray(weights, np.float64), np.asarray(biases, np.float64)
    reached = np.abs(b) > 1e-9 * max(np.abs(b).max(initial=0), 1e-30)
    return w[reached] / b[reached, None]


def inputs_of_bins(weights: NDArray, biases: NDArray) -> F64:
    """Return what fell between the thresholds of neighbouring neurons of a `trap`, (m, p), as `inputs_of_neurons`."""
    w, b = np.asarray(weights, np.float64), np.asarray(biases, np.float64)
    return inputs_of_neurons(np.diff(np.vstack([w, 0 * w[:1]]), axis=0), np.diff(np.append(b, 0)))


def trap(network: Perceptron, public: NDArray, seed: int = 0) -> F32:
    """Return a network that is a trap: hidden neuron k fires when a picture is brighter than threshold k.

    Args:
        network: its shape.
        public: pictures like those that are attacked, (m, p); thresholds are set so that each bin is as likely.
        seed: of the output weights, which are the same for all neurons.
    """
    bright = np.asarray(public, np.float64).mean(axis=1)
    shape = NormalDist(float(bright.mean()), float(bright.std()))
    cuts = np.array([shape.inv_cdf((k + 0.5) / network.hidden) for k in range(network.hidden)])
    out = np.random.default_rng(seed).uniform(-0.5, 0.5, network.classes)
    return network.join(
        np.full((network.hidden, network.inputs), 1 / network.inputs), -cuts,
        np.repeat(out[:, None], network.hidden, axis=1), np.zeros(network.classes),
    )  # fmt: skip


def dead(network: Perceptron, seed: int = 0) -> F32:
    """Return a network in which no hidden neuron fires: its first layer gets no update (Pasquini et al. 2022)."""
    w1, b1, w2, b2 = network.split(network.start(seed))
    return network.join(w1, b1 - 1e3, w2, b2)


def labels_of(bias: NDArray, rows: int, chances: NDArray) -> I64:
    """Return the labels of a batch, sorted, from the gradient of the last bias: mean of chances minus labels.

    Args:
        bias: (k,) the gradient.
        rows: how many rows the batch has.
        chances: (k,) what the network says on average, before it has learnt anything.
    """
    counts, found = rows * (np.asarray(chances) - bias), []
    for _ in range(rows):
        found.append(int(np.argmax(counts)))
        counts[found[-1]] -= 1
    return np.array(sorted(found), np.int64)


# ------------------------------------------------------------------------------------------------------- by search


def small_convolutions(seed: int = 0) -> Any:
    """Return a LeNet for 8 × 8 pictures, with smooth activations as in DLG."""
    import torch

    torch.default_generator.manual_seed(seed)
    parts = torch.nn
    return parts.Sequential(
        parts.Unflatten(1, (1, 8, 8)), parts.Conv2d(1, 12, 3, padding=1), parts.Sigmoid(),
        parts.Conv2d(12, 12, 3, padding=1, stride=2), parts.Sigmoid(), parts.Flatten(), parts.Linear(192, 10),
    )  # fmt: skip


def searched(
    module: Any, gradient: NDArray, labels: I64, *, steps: int, direction: bool, seed: int = 0, smooth: float = 1e-4
) -> F64:
    """Look for pictures, (n, 64), whose gradient is the one that was seen.

    Args:
        module: the network that it is a gradient of.
        gradient: all of it, in the order of the parameters.
        labels: (n,) of the batch, as `labels_of` gives them.
        steps: of the search.
        direction: compare directions by Adam on signs, with total variation (Geiping et al.), or else squared
            differences by L-BFGS (DLG).
        seed: of the pictures to begin with.
        smooth: weight of the total variation.
    """
    import torch

    weights = list(module.parameters())
    want = [
        part.view_as(w)
        for part, w in zip(
            torch.as_tensor(np.asarray(gradient, np.float32)).split([w.numel() for w in weights]), weights, strict=True
        )
    ]
    scale = sum(float((w**2).sum()) for w in want)
    first = np.random.default_rng(seed).uniform(0, 1, (len(labels), 64)).astype(np.float32)
    x, y = torch.tensor(first, requires_grad=True), torch.as_tensor(labels)

    def cost() -> Any:
        loss = torch.nn.functional.cross_entropy(module(x), y)
        got = torch.autograd.grad(loss, weights, create_graph=True)
        if not direction:
            return sum(((g - w) ** 2).sum() for g, w in zip(got, want, strict=True)) / scale
        both = sum((g * w).sum() for g, w in zip(got, want, strict=True))
        length = sum((g**2).sum() for g in got)
        square = x.view(-1, 8, 8)
        variation = square.diff(dim=1).abs().mean() + square.diff(dim=2).abs().mean()
        return 1 - both / (length * scale).sqrt() + smooth * variation

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them only get into each other's way on pictures that small
    try:
        (_by_signs if direction else _by_lbfgs)(torch, x, cost, steps)
    finally:
        torch.set_num_threads(threads)
    return x.detach().numpy().astype(np.float64)


def _by_lbfgs(torch: Any, x: Any, cost: Any, steps: int) -> None:
    search = torch.optim.LBFGS([x], lr=1.0, max_iter=steps, history_size=50, line_search_fn="strong_wolfe")

    def again() -> Any:
        search.zero_grad()
        value = cost()
        x.grad = torch.autograd.grad(value, [x])[0]
        return value

    search.step(again)
    with torch.no_grad():
        x.nan_to_num_(0.5)


def _by_signs(torch: Any, x: Any, cost: Any, steps: int) -> None:
    search = torch.optim.Adam([x], lr=0.1)
    for step in range(steps):
        search.param_groups[0]["lr"] = 0.1 * (0.1 ** (step / steps))
        x.grad = torch.autograd.grad(cost(), [x])[0].sign()
        search.step()
        with torch.no_grad():
            x.clamp_(0, 1)
