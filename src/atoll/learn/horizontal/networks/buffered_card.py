"""What buffered asynchronous averaging shows to whom."""

from atoll.core.protocol import Card

CARD = Card(
    source="Nguyen et al., AISTATS 2022 (FedBuff); updates damped by (1 + τ)^-power as of Xie et al. 2019 (FedAsync). "
    "Each buffer is a checked `sum-star` over its sites, with the newest network, their names and "
    "versions in its keys.",
    security="That of `sum-star` for each buffer: sites are semi-honest; the aggregator and any sites of a buffer "
    "together learn the average of the others' updates in it. A site gives an update to one buffer at most, and to "
    "none with other than K sites, so that no two sums hold the same update. The aggregator chooses which of the sites "
    "that are ready meet in a buffer. It may lie: where keys are signed (`seal`) and no site helps it, it cannot lead "
    "sites to a network that none has made, in which they have nothing to say, so as to see the update of another "
    "(Pasquini et al., ACM CCS 2022). For sites vouch for each version by HMAC-SHA256 over its number and hash, under "
    "a key that they share and the aggregator has not, and take none without; and where sites of a buffer were told "
    "different things, masks do not cancel out and tags do not fit.",
    inputs="Each site a network of n numbers and rows; all the same plan and rules, K of them at least 3.",
    reveals={
        "site": (
            "The network as it is whenever the site has trained; the one to begin with is that of the first site.",
            "For each buffer that it is in: its sites, from which version each has trained, and the sums over them "
            "of weights, updates, training loss, rows and metrics.",
        ),
        "aggregator": (
            "The same for every buffer.",
            "When each site has trained, thus how fast it is.",
            "Not: any single update.",
        ),
    },
    cost="For each update 3 messages, 32 bytes up and 4 n + 32 down; for each buffer two or three sums of `sum-star`, "
    "in all of n + 1 numbers and a few, of 192 bits each way, or with `clip` of 32.",
    fails="ContractError when sites run something else; ProtocolError on a network, version or buffer that cannot be, "
    "on a network that no site vouches for, and when sites of a buffer come to different ones; as `sum-star` within a "
    "buffer. A site that is lost while it trains is left out, if enough are left.",
    assurance="tested",
    notes=(
        "An average of K updates hides one among K: with few rows it can still give rows away.",
        "K - 1 sites of a buffer that pool what they know see the update of the last one.",
        "A site that helps a lying aggregator can vouch for any network, and so single another site out.",
        "A lying aggregator can keep groups of K sites apart, each of which makes versions of its own.",
        "An update from an old network can stand out where the other sites of the buffer have little left to learn.",
        "Fast sites count more often: with other rows at slow sites the network leans towards the fast ones.",
    ),
)
