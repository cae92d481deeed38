"""What buffered asynchronous averaging shows to whom."""

from atoll.core.protocol import Card

CARD = Card(
    source="Nguyen et al., AISTATS 2022 (FedBuff); updates damped by (1 + τ)^-power as of Xie et al. 2019 (FedAsync). "
    "Each buffer is a checked `sum-star` over its sites, whose names and versions are in its keys.",
    security="That of `sum-star` for each buffer: semi-honest; the aggregator and any sites of a buffer together learn "
    "the average of the others' updates in it. A site gives an update to one buffer at most, and to none with other "
    "than K sites, so that no two sums hold the same update. The aggregator chooses which of the sites that are ready "
    "meet in a buffer, and which network each trains from: it is trusted to send all the same.",
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
    cost="For each update 2 messages and 4 n bytes down; for each buffer two or three sums of `sum-star`, in all of "
    "n + 1 numbers and a few, of 192 bits each way, or with `clip` of 32.",
    fails="ContractError when sites run something else; ProtocolError on a network, version or buffer that cannot be; "
    "as `sum-star` within a buffer. A site that is lost while it trains is left out, if enough are left.",
    assurance="tested",
    notes=(
        "An average of K updates hides one among K: with few rows it can still give rows away.",
        "K - 1 sites of a buffer that pool what they know see the update of the last one.",
        "Fast sites count more often: with other rows at slow sites the network leans towards the fast ones.",
    ),
)
