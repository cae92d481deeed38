"""What attacks are measured with, against independent references."""

from __future__ import annotations

import base64
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from bench import attack_figures, inversion, membership, pictures
from bench.perceptron import Perceptron, Rows


def test_a_picture_that_is_off_by_a_tenth_has_20_db() -> None:
    one = np.linspace(0, 0.8, 64)
    assert inversion.psnr(one, one + 0.1) == pytest.approx(20)
    assert inversion.psnr(one, one) == inversion.BEST
    assert inversion.ssim(one, one) == pytest.approx(1)
    assert inversion.ssim(one, 0.8 - one) < -0.9


def test_each_original_is_held_against_its_nearest_candidate() -> None:
    originals = np.eye(3, 4)
    found = inversion.score(originals, np.array([[0, 0.9, 0, 0], [1, 0, 0, 0], [7, 7, 7, 7]]))
    assert found.pictures[:2].tolist() == [[1, 0, 0, 0], [0, 0.9, 0, 0]]
    assert found.recovered == pytest.approx(2 / 3)
    assert inversion.score(originals, np.zeros((0, 4))).psnr == pytest.approx(-10 * np.log10(0.25))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60))
def test_auc_and_members_found_are_those_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, members = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    if members.all() or not members.any():
        return
    found = membership.Guessed(scores, members)
    assert found.auc == pytest.approx(roc_auc_score(members, scores))
    wrong, right, _ = roc_curve(members, scores, drop_intermediate=False)
    for limit in (0.0, 0.1, 0.5):
        assert found.found(limit) == pytest.approx(right[wrong <= limit + 1e-12].max())


def test_what_noise_allows_is_what_two_normal_distributions_allow() -> None:
    rho = 0.4
    draw = np.random.default_rng(0)
    scores = np.concatenate([draw.normal(np.sqrt(2 * rho), 1, 100_000), draw.normal(0, 1, 100_000)])
    drawn = membership.Guessed(scores, np.arange(200_000) < 100_000)
    assert drawn.auc == pytest.approx(membership.allowed_auc(rho), abs=0.004)
    assert drawn.found(0.01) == pytest.approx(membership.allowed(0.01, rho), abs=0.004)


def test_the_gradient_of_every_row_is_that_of_pytorch() -> None:
    shape, draw = Perceptron(5, 4, 3), np.random.default_rng(1)
    x, y = draw.normal(size=(6, 5)), np.array([0, 1, 2, 2, 1, 0])
    start = shape.start(2)
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)).double()
    torch.nn.utils.vector_to_parameters(torch.as_tensor(start.astype(np.float64)), module.parameters())
    mine = shape.gradients(start, x, y)
    for k in range(6):
        loss = torch.nn.functional.cross_entropy(module(torch.as_tensor(x[k : k + 1])), torch.as_tensor(y[k : k + 1]))
        theirs = torch.cat([one.reshape(-1) for one in torch.autograd.grad(loss, list(module.parameters()))])
        np.testing.assert_allclose(mine[k], theirs.numpy(), rtol=1e-9, atol=1e-12)


def test_one_row_changes_a_clipped_step_by_no_more_than_its_bound() -> None:
    from atoll.learn.horizontal.networks import Work

    shape, draw = Perceptron(5, 4, 3), np.random.default_rng(3)
    x, y = draw.normal(size=(9, 5)).astype(np.float32) * 10, draw.integers(0, 3, 9)
    moved = []
    for rows in (slice(0, 9), slice(0, 8)):
        one = Rows(shape, shape.start(), x[rows], y[rows], clip=0.02, planned=4)
        one.train(Work(0, 1, 0, 3.0, 0))
        moved.append(one.vector)
    assert 0.9 * 3.0 * 0.02 / 4 < np.abs(moved[0] - moved[1]).max() <= 1.001 * 3.0 * 0.02 / 4


def test_labels_of_a_batch_stand_in_the_last_gradient() -> None:
    chances, labels = np.array([0.5, 0.3, 0.2]), np.array([0, 2, 2, 2])
    bias = chances - np.bincount(labels, minlength=3) / 4
    assert inversion.labels_of(bias, 4, chances).tolist() == [0, 2, 2, 2]


def test_a_picture_of_the_documentation_can_be_read_back() -> None:
    tiles = np.zeros((2, 64))
    tiles[1, 0] = 1.0
    text = pictures.svg([pictures.Strip("A & B", "甲", tiles, "")])
    assert "A &amp; B" in text
    data = base64.b64decode(re.findall(r"base64,([^\"]+)", text)[0])
    width, height = struct.unpack(">2I", data[16:24])
    size = struct.unpack(">I", data[33:37])[0]
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + size]), np.uint8).reshape(height, width + 1)[:, 1:]
    assert np.array_equal(rows, pictures.in_a_row(tiles))
    assert (rows[0, 0], rows[0, 10 * pictures.SCALE], rows[0, 11 * pictures.SCALE]) == (255, 0, 255)


def test_the_documentation_has_the_figures_that_were_measured() -> None:
    text = attack_figures.PAGE.read_text(encoding="utf-8")
    assert text.count("| Plain") >= 10
    assert attack_figures.filled(text) == text, "run `python -m bench privacy_attacks` again, or commit its results"
