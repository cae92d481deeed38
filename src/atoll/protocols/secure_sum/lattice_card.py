"""The card of `sum-lattice`."""

from __future__ import annotations

from atoll.core.protocol import Card

CARD = Card(
    source="Mouchet et al., PoPETs 2021(4) (eprint 2020/304); with t of n members Mouchet, Bertrand and Hubaux, J. "
    "Cryptology 36, 2023 (eprint 2022/780); over the scheme of Brakerski, Gentry and Vaikuntanathan, ITCS 2012. Tags: "
    "Damgård et al., CRYPTO 2012, with pads of their own as in Agrawal and Boneh, ACNS 2009. What happens when an "
    "opener fails is Atoll's.",
    security="Semi-honest, ring-LWE at 128 bits by the homomorphic encryption standard, and 2^-40 for each polynomial "
    "of 4,096 numbers (16,384 of 192 bits) statistically (docs/parameters-sums.md): the hub and fewer than t members "
    "together learn the sum over the others and no more. With signed keys also against a hub that swaps keys. A hub "
    "alone that asks to open anything else than the sum of the vectors that it counts goes unnoticed with probability "
    "2^-120; the same for a changed sum, where the hub has no numbers of its own. A hub that members help is held to "
    "follow the protocol.",
    inputs="Each site a vector of n numbers of 16, 32 or 192 bits, of up to 33 MB, and up to 32 members; n and what it "
    "is are the same at all. hub: a vector as well, or none. A sum that exceeds the width wraps around: callers leave "
    "room for all sites.",
    reveals={
        "hub": (
            "The sum over all sites that are counted, what it is, and n.",
            "With numbers of its own: therefore the sum over the members.",
            "Which members dropped out, and when.",
        ),
        "member": ("The same sum.", "The names of the sites that are counted."),
    },
    cost="Once for each width of numbers, for m members: 61 kB up and 61 (m - 1) kB down for 16 and 32 bits, 590 "
    "for 192; as much again times m - 1 each way where t of m open. For each sum 27 bytes up a number of 16 or 32 "
    "bits, and 90 of 192, with at least 61 and 590 kB; down 28 and 84, with at least 82 and 786 kB. Two round trips.",
    fails="ProtocolError when sites differ in job, members, options, or in what they add, a message has another size, "
    "tags or shares do not fit, or fewer than t members are left; IdentityError on a key that is not signed by its "
    "member. With t of m members one that fails or is late is left out from then on; one that fails while a key is "
    "made, or any where all are needed, ends it at all sites.",
    assurance="tested",
    notes=(
        "With two sites in all, each learns the other's numbers: the sum shows them.",
        "t members together can open anything that was encrypted: choose t above the number that might pool keys. "
        "With all members needed, nobody but all of them can.",
        "A member that fails while it opens is counted in that sum, and in none after it. Sums of the same numbers "
        "over different sites show the difference: a hub can bring it about by saying that a site was late.",
        "A site can add what it likes: poisoned numbers are not noticed. A member that opens wrongly makes a wrong "
        "sum, which is noticed in no way.",
        "Keys live in memory, for one run of one job.",
    ),
)
