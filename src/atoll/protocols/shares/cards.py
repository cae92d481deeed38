"""The cards of computing on shares: the two parties' engine, the three sources of its randomness, and three parties."""

from __future__ import annotations

from atoll.core.protocol import Card

ARITHMETIC = Card(
    source="Products: Beaver, CRYPTO 1991. Comparison: digits of 4 bits joined in a tree (Garay, Schoenmakers and "
    "Villegas, PKC 2007; leaves as in Rathee et al., CrypTFlow2, ACM CCS 2020). Truncation: Escudero et al., CRYPTO "
    "2020, with a dealer; CrypTFlow2, with transfers. Adder: Sklansky 1960. Sorting: Batcher 1968.",
    security="Semi-honest, two parties. Halves and masked words are uniform, so the online part is perfect; the whole "
    "is as good as its source: `triple-dealer` (a third site that must not collude with a party) or "
    "`transfer-randomness` (no third site, computational).",
    inputs="first, second: arrays of numbers whose shapes both know; real numbers as integers times 2^f, f = 18 by "
    "default, and integers of the ring below 2^62 in size.",
    reveals={
        "first": (
            "The shapes of all arrays and the operations, which are the program.",
            "What the program opens to it, and nothing else.",
        ),
        "second": (
            "The shapes of all arrays and the operations, which are the program.",
            "What the program opens to it, and nothing else.",
        ),
    },
    cost="For each value and party, with a dealer: product 16 bytes, square 8, truncation 8, sign 14, bit to number "
    "1/8, choice by a bit 8; a matrix product 8·(m·k + k·n). One round each, but 5 for a sign. "
    "docs/how-to/compute-on-shares.md has the table, with both sources.",
    fails="ProtocolError where the sites' programs differ (a hash of all operations is in every message), or on a "
    "wrong kind or shape; ContractError where the set-up differs; InputError on numbers that do not fit. Numbers that "
    "outgrow 2^62 on the way wrap silently: nobody sees them.",
    assurance="tested",
    notes=(
        "A truncated result is at most one unit in the last place off, up or down; there is no rare catastrophic "
        "error, as with halves that are shifted locally.",
        "A malicious party can shift what is opened by any amount it likes: there are no authentication codes.",
        "Every opened result tells what it tells: judge it as a release, not as a message.",
    ),
)

DEALER = Card(
    source="Beaver, Commodity-based cryptography, STOC 1997; seeds to both, corrections to one.",
    security="Semi-honest, honest majority of the three sites: the dealer must not collude with a party. AES-256 in "
    "counter mode for the seeds.",
    inputs="dealer: nothing. party: what it wants next, and of which size.",
    reveals={
        "dealer": ("Kinds, sizes and number of all orders: which operations run, and on how many values. No value.",),
        "party": ("Halves of random numbers.",),
    },
    cost="To party 1 only, for each value: product 8 bytes, square 8, sign 36, truncation 16, bit to number 8, "
    "choice by a bit 16, logistic function 248; matrix product 8·m·n. To party 0 nothing but its "
    "seed. An order is about 100 bytes.",
    fails="ProtocolError when the parties order different things, or more than 2^26 words at once.",
    assurance="tested",
    notes=(
        "A third site is involved: results that rest on it are not two-party results.",
        "A dealer that deals wrongly spoils results, and can shift them by amounts of its choice.",
        "Streams only go forward, and an account cannot be copied or stored; after a restart there are new seeds.",
    ),
)

TRANSFERS = Card(
    source="Products: Gilboa, CRYPTO 1999. Bits: Asharov, Lindell, Schneider and Zohner, ACM CCS 2013. Comparison of "
    "digits and truncation: CrypTFlow2, ACM CCS 2020. Transfers: `compact-transfer`.",
    security="Semi-honest, two parties and nobody else; computational, 128 bits, as the transfers are. Pads by fixed-"
    "key AES (TMMO).",
    inputs="Both: nothing but what is wanted next, and of which size.",
    reveals={
        "first": ("Halves of random numbers.",),
        "second": ("Halves of random numbers.",),
    },
    cost="For each value, both directions together: product 128 transfers and 768 bytes, square half of it, sign 94 "
    "transfers and 64 bytes, truncation 1 and 4, bit to number 1 and 8, choice by a bit 2 and 16; matrix "
    "product 128·k·min(m, n) transfers and 768·m·k·n bytes, which is for small matrices. A transfer is 4 bytes.",
    fails="ProtocolError on wrong sizes or an index that differs; after a failed call the set-up refuses to go on.",
    assurance="tested",
    notes=("The dealer does the same work for a hundredth of the traffic, if there is a third site to trust.",),
)

HOMOMORPHIC = Card(
    source="BGV: Brakerski, Gentry and Vaikuntanathan, ITCS 2012. Products in slots: Damgård et al., CRYPTO 2012, for "
    "two parties. Matrices: Huang et al., Cheetah, USENIX Security 2022, with tiles of our own. Everything else: "
    "`transfer-randomness`.",
    security="Semi-honest, two parties and nobody else; ring-LWE, 128 bits by the homomorphic encryption standard. "
    "What an answer shows of the answerer's numbers is within 2^-40 of nothing for each ciphertext.",
    inputs="Both: nothing but what is wanted next, and of which size.",
    reveals={
        "first": ("Halves of random numbers, and of products.",),
        "second": ("Halves of random numbers, and of products.",),
    },
    cost="Set-up 1.6 MB. For each value, both directions together: product 378 bytes, square 243, in whole blocks of "
    "4,096; below 1,024 values at a time as with transfers. Matrix product 320 kB and more, 300 MB for 1,000 × "
    "1,000 × 1,000; below 1,024 terms as with transfers. The rest as with transfers.",
    fails="ProtocolError on wrong sizes, or a request that is out of turn.",
    assurance="tested",
    notes=(
        "docs/parameters-shares.md derives the parameters; a test computes their noise and security again.",
        "A malicious owner can encrypt what is no number, or with another noise, and learn about the other's halves.",
        "A request's number and the seed give its uniform part: it never serves twice, and nothing can be stored.",
    ),
)

REPLICATED = Card(
    source="Araki, Furukawa, Lindell, Nof and Ohara, ACM CCS 2016; truncation as `triple-dealer` deals it, with the "
    "third party as the dealer (Dalskov, Escudero and Keller, USENIX Security 2021); bits as in Mohassel and Rindal, "
    "ABY3, ACM CCS 2018.",
    security="Semi-honest, three parties of which at most one is curious: two that collude see everything. AES-256 in "
    "counter mode for the common streams, otherwise perfect.",
    inputs="member: arrays of numbers whose shapes all know, as of `shared-arithmetic`.",
    reveals={
        "member": (
            "The shapes of all arrays and the operations, which are the program.",
            "What the program opens to it, and nothing else.",
        ),
    },
    cost="Product and matrix product 8 bytes for each result and party, whatever its length; opening 8; input 8 in "
    "all; truncation 48 in all, in 3 rounds; sign 78, equality 32, bit to number 32, choice by a bit 56.",
    fails="ProtocolError where the sites' programs differ, or on a wrong kind or shape; ContractError where the set-up "
    "differs; InputError on numbers that do not fit. Numbers that outgrow 2^62 wrap silently.",
    assurance="tested",
    notes=(
        "There is a third party: name it in the statement of trust.",
        "A malicious party can shift what is opened by any amount it likes.",
    ),
)
