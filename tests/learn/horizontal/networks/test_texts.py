"""Texts as hashed words: alike at every site, and what networks learn from them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib import import_module

import numpy as np
import pytest
import torch

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks import FedAvg, Plan, TorchTrainer, hashed_words
from tests.learn.horizontal.networks.runs import fit_all


def test_words_and_pairs_fall_into_buckets_and_the_rest_is_padding() -> None:
    rows = hashed_words(["The cat, the CAT!", "", "猫 и кот", "a b c d"], buckets=100, longest=4)
    want = [zlib.crc32(term.encode()) % 100 + 1 for term in ("the", "cat", "the", "cat")]
    assert rows[0].tolist() == want
    assert rows[1].tolist() == [0, 0, 0, 0]
    assert (rows[2] > 0).tolist() == [True] * 4  # three words and a pair of the two pairs
    assert rows[2][3] == zlib.crc32("猫 и".encode()) % 100 + 1
    assert rows.dtype == np.int64
    assert rows.max() <= 100
    assert hashed_words([]).shape == (0, 256)
    with pytest.raises(InputError, match="at least 1 bucket"):
        hashed_words(["x"], buckets=0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TOPICS = (
    ("statistics", "random", "fractions"),
    ("asyncio", "threading", "queue"),
    ("email.message", "smtplib", "mailbox"),
    ("pathlib", "shutil", "zipfile"),
)


def paragraphs(modules: tuple[str, ...]) -> list[str]:
    """Paragraphs of the documentation that ships with Python's own modules."""
    found = set()
    for module in map(import_module, modules):
        for one in vars(module).values():
            for thing in (one, *(vars(one).values() if isinstance(one, type) else ())):
                doc = getattr(thing, "__doc__", None)
                if callable(thing) and isinstance(doc, str):
                    found |= {" ".join(part.split()) for part in doc.split("\n\n") if len(part.split()) > 5}
    return sorted(found)


def test_sites_with_other_topics_learn_to_tell_all_of_them_apart() -> None:
    texts = [paragraphs(modules) for modules in TOPICS]
    topics = np.repeat(np.arange(4), [len(one) for one in texts])
    rows = hashed_words([text for one in texts for text in one], buckets=2048, longest=60)
    draw = np.random.default_rng(0)
    sites = np.where(draw.random(len(topics)) < 0.7, topics, draw.integers(0, 4, len(topics)))
    held = draw.random(len(topics)) < 0.3

    def trainer(k: int) -> TorchTrainer:
        torch.manual_seed(0)
        bag = torch.nn.EmbeddingBag(2049, 8, padding_idx=0, mode="sum")
        bag.weight.data.mul_(0.05)
        train, test = (np.flatnonzero((sites == k) & part) for part in (~held, held))
        loss = torch.nn.functional.cross_entropy
        network = torch.nn.Sequential(bag, torch.nn.Linear(8, 4))
        return TorchTrainer(network, loss, (rows[train], topics[train]), (rows[test], topics[test]))

    plan = Plan(rounds=8, batch=16, lr=0.3, evaluate=8, seed=1)
    done = fit_all([trainer(k) for k in range(4)], plan, algorithm=FedAvg(momentum=0.5))
    assert done[0].rounds[-1].metrics["accuracy"] > 0.7  # the most frequent topic has 0.4
