"""The card of a sum that survives drop-outs."""

from atoll.core.protocol import Card

CARD = Card(
    source="Bonawitz et al., ACM CCS 2017 (eprint 2017/281), with signatures; above 64 members on the graph "
    "of Bell et al., ACM CCS 2020 (eprint 2020/704). Keys bound to sum, model and members against Pasquini "
    "et al., ACM CCS 2022. Tags: Damgård et al., CRYPTO 2012, with a key that members share.",
    security="Semi-honest, computational 128 bits: the hub and up to t - 1 neighbours of a member learn the sum over "
    "the survivors and no more, where t is more than half of a member and its neighbours. With `malicious` t is more "
    "than two thirds, and with signed keys the same holds, while less than a third collude, against a hub that tells "
    "members different keys, members or survivors. In a checked sum a hub that changes the total goes unnoticed with "
    "probability 2^-120, if no member helps it. Above 64 members all this fails with probability 2^-40, for a tenth "
    "of the members gone and a tenth colluding.",
    inputs="Each site a vector of n numbers of 16, 32 or 192 bits; n and what it is are the same at all. hub: a "
    "vector as well, or none. A sum that exceeds the width wraps around: callers leave room for all sites.",
    reveals={
        "hub": (
            "The sum over the survivors and itself, what it is, and n.",
            "Which sites dropped out, and at which step.",
        ),
        "member": ("The sum over the survivors and the hub.", "The names of the survivors."),
    },
    cost="For each sum 5 messages up and 5 down, and one more each way for every 768 kB: n · bits / 8 bytes each way, "
    "about 280 bytes for each neighbour up and 250 for each member down. The hub expands one mask for each survivor, "
    "and k for each site that dropped out after its shares.",
    fails="A member that fails or is late at any step is left out from then on, and the record says when and why. "
    "ProtocolError when fewer members are left than the least number or than shares ask for, members add different "
    "things, the hub told keys, shares or survivors that do not fit, or in a checked sum the total is not theirs; "
    "IdentityError on a key or a statement that is not signed by its member.",
    assurance="tested",
    notes=(
        "A member never opens both the seed and the key of another, for it answers once in a round and keeps the "
        "round's secrets in memory only: a process that starts again has none that it could be made to open.",
        "A member that was late cannot come back within the job.",
        "The numbers of a member that drops out after its vector arrived are in the sum, but for steady sums: there "
        "the sum in which a site is first missed is not opened, and all sites are told that it left.",
        "A site can add what it likes: poisoned numbers are not noticed.",
        "Sums over different sites show the difference: a site that drops out between two sums of the same numbers "
        "shows its own.",
    ),
)
