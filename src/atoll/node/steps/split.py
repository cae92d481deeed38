"""Split the common rows into training, validation and test rows, the same way at every site."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U8, Message
from atoll.core.protocol import Card, Protocol
from atoll.core.session import Session
from atoll.node.steps.base import Step, Work, present

Share = Annotated[float, msgspec.Meta(ge=0, le=0.9)]
TRAIN, VALIDATION, TEST = 0, 1, 2


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="split"):
    """Params of `split`.

    Attributes:
        validation: share of rows kept for early stopping.
        test: share of rows kept for evaluation.
        seed: another number gives another split of the same customers.
    """

    validation: Share = 0.0
    test: Share = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.validation + self.test > 0.9:
            raise InputError(
                f"validation {self.validation:g} and test {self.test:g} leave too little to train on",
                cure="Keep at least a tenth of the rows for training.",
            )


class TestRows(Message, frozen=True):
    """Which common rows are kept for the test: 1, or 0 for those that the model is made of."""

    test: U8


def draw(ids: Sequence[NDArray[np.object_]], params: Split) -> NDArray[np.uint8]:
    """Put every id into a part by its hash, so that a customer stays in its part from job to job.

    Args:
        ids: for each id column (n,) texts.
        params: shares and seed.

    Returns:
        (n,) uint8 parts.
    """
    key = f"atoll split {params.seed}".encode()
    texts = ids[0] if len(ids) == 1 else ["\x1f".join(row) for row in zip(*ids, strict=True)]
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest() for text in texts)
    at = np.frombuffer(digests, "<u8").astype(np.float64) / 2.0**64
    part = np.zeros(len(at), np.uint8)
    part[at < params.test + params.validation] = VALIDATION
    part[at < params.test] = TEST
    return part


async def announce(peer: Channel, part: NDArray[np.uint8]) -> None:
    """Label holder: tell a feature holder which rows are test rows, and not which validate.  part (n,) in {0, 1, 2}."""
    await peer.send(TestRows((part == TEST).astype(np.uint8)))


async def learn(peer: Channel, rows: int) -> NDArray[np.uint8]:
    """Feature holder: receive the parts of the n common rows; validation rows look like training rows.

    Raises:
        ProtocolError: a value other than 0 and 1.
    """
    test = (await peer.recv(TestRows, test=(rows,))).test
    if test.max(initial=0) > 1:
        raise ProtocolError("a row is neither kept for the test nor used for the model")
    return test * np.uint8(TEST)


class SplitStep(Step[Split]):
    """The label holder splits by a hash of the ids and announces the parts."""

    name = "split"
    title = "Split into training, validation and test rows"
    needs = ("rows",)
    gives = ("parts",)
    leaves = ("part.npy",)

    def uses(self) -> tuple[Protocol, ...]:
        """The announcement."""
        return (PROTOCOL,)

    async def run(self, session: Session, work: Work) -> str:
        """Draw or learn the parts.

        Raises:
            InputError: a part that is needed came out empty, or training or test rows hold one class only.
        """
        rows, table = present(work.rows, "common rows"), present(work.table, "table")
        if work.labels:
            part = draw([ids[rows] for ids in table.ids], self.params)
            self._refuse_useless(part, work.y)
            for peer in session.peers.values():
                await announce(peer.sub("split"), part)
        else:
            part = await learn(session.peers[work.job.hub].sub("split"), len(rows))
        work.part = part
        work.store.write_array("part.npy", part)
        train, validation, test = (int(np.count_nonzero(part == which)) for which in (TRAIN, VALIDATION, TEST))
        counts = {"train": train, "validation": validation, "test": test}
        work.report["split"] = counts if work.labels else {"test": test}
        kept = f", {validation:,} for early stopping" if validation else ""
        used = f"{train:,} rows to train{kept}" if work.labels else f"{train:,} rows for the model"
        return f"{used}, {test:,} to evaluate"

    async def resume(self, work: Work) -> None:
        """Take the parts again."""
        work.part = work.store.read_array("part.npy")

    def _refuse_useless(self, part: NDArray[np.uint8], y: NDArray[np.float64] | None) -> None:
        shares = {TRAIN: 1.0, VALIDATION: self.params.validation, TEST: self.params.test}
        words = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}
        for which, share in shares.items():
            chosen, word = part == which, words[which]
            if not share:
                continue
            if not chosen.any():
                raise InputError(f"no common row fell into the {word} part", cure="Bring more rows, or a larger share.")
            if y is not None and len(np.unique(y[chosen])) < 2:
                raise InputError(
                    f"the {word} rows of the common customers hold one class only",
                    cure="Bring more rows of the rarer outcome, or larger shares.",
                )


PROTOCOL = Protocol(
    name="split-announcement",
    version=1,
    title="The label holder tells which common rows are kept for the test",
    card=Card(
        source="Atoll; keyed BLAKE2b of the id, RFC 7693.",
        security="Nothing is hidden: the parts are a function of the ids, which both sides know of the rows that they "
        "have, and of a seed.",
        inputs="Label holder: which of the n common rows are test rows. Feature holder: n.",
        reveals={
            "label holder": ("Nothing.",),
            "feature holder": ("Which common rows are kept for the test; no label or column decides that.",),
        },
        cost="1 message of n bytes to each feature holder.",
        fails="ProtocolError on another shape or a value above 1.",
        assurance="tested",
    ),
    roles={"label holder": announce, "feature holder": learn},
    messages=(TestRows,),
)
