"""Networks trained without a centre, and without a sum over all sites: each averages with a few others, drawn anew.

In every round a site trains on its own rows, and its network goes through some rounds of `sum-gossip`.  What a site
sends does not grow with the number of sites.  Networks stay a little apart; `contraction` of the protocol says how far.

Source: Lian et al., "Can decentralized algorithms outperform centralized algorithms?", NeurIPS 2017, algorithm 1
(decentralised SGD), with random groups instead of a fixed graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.channel import Channel
from atoll.core.errors import InputError
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import agreed
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.fit import Plan
from atoll.learn.horizontal.networks.local import Local
from atoll.learn.horizontal.networks.trainer import Trained, Trainer, Work
from atoll.protocols.secure_sum.gossip import SMALLEST, contraction, mix


@dataclass(frozen=True)
class Gossiped:
    """What a site has after training.

    Attributes:
        model: (n,) float32, what sites share, near that of all others.
        apart: Root of the expected squared distance of the networks to their mean that one round leaves, as a part of
            what training pulls them apart in it.
    """

    model: F32
    apart: float


async def gossip(
    trainer: Trainer,
    peers: Mapping[str, Channel],
    plan: Plan,
    *,
    rng: Rng,
    mixes: int = 1,
    clip: float = 0.0,
    context: Sequence[str] = (),
    on_round: Callable[[int, Trained], None] = lambda number, done: None,
) -> Gossiped:
    """Train one network with the other sites, in small groups; all sites count alike.

    Args:
        trainer: The network, the same numbers to begin with at every site, and this site's rows.
        peers: Channels to all other sites by name; each runs the same, and nobody else can read them.
        plan: The same at every site, with `weights="equal"`, a seed, and all sites in every round; nobody looks at
            held-out rows, and `patience` means nothing.
        rng: Secret randomness.
        mixes: Rounds of averaging after each training.
        clip: Largest size of a number of the network, if numbers shall travel with 32 bits; see `mix`.
        context: What the job is.
        on_round: Called after every round with its number, from 1, and what training said here.

    Returns:
        This site's network, which the trainer holds, too.

    Raises:
        InputError: The plan has what gossip has not, fewer than three sites, or training has diverged.
        ProtocolError: Sites have other plans or begin with other networks, or as the card of `sum-gossip` says.
    """
    if plan.weights != "equal" or plan.sample != 1 or plan.seed is None:
        raise InputError(
            "with gossip all sites train in every round and count alike",
            step="networks",
            cure='Say `Plan(weights="equal", seed=…)`, and leave `sample` out.',
        )
    if len(peers) + 1 < SMALLEST:
        raise InputError(
            f"with gossip each site averages with {SMALLEST - 1} others, and there are {len(peers)}",
            step="networks",
            cure="Take `fit`, or find more sites.",
        )
    me = next(iter(peers.values())).gate.site
    local = Local(trainer, me)
    vector = trainer.parameters()
    model, own = local.shared(vector), vector[local.own]
    document = msgspec.json.encode([plan, mixes]) + model.tobytes()
    bound = (*context, hashlib.sha256(document).hexdigest())  # other plans, other keys
    seed = hashlib.sha256(str(plan.seed).encode()).digest()[:16]
    for number in range(plan.rounds):
        drawn = agreed.number(seed, "training", number, me)
        work = Work(number, plan.epochs, plan.batch, plan.lr_at(number), drawn)
        change, own, done = await local.train(model, own, work)
        within = {name: channel.sub(f"training {number}") for name, channel in peers.items()}
        mixed = await mix(
            within,
            (model + change).astype(np.float64),
            rounds=mixes,
            what=f"networks of round {number + 1}",
            rng=rng.spawn(),
            clip=clip,
            context=bound,
        )
        model = mixed.values.astype(np.float32)
        on_round(number + 1, done)
    local.install(model, own)
    return Gossiped(model, contraction(len(peers) + 1) ** (mixes / 2))
