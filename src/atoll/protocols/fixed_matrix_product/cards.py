"""The three cards of the fixed-matrix product, one for each output."""

from __future__ import annotations

from atoll.core.protocol import Card

_SOURCE = (
    "Ours; docs/parameters.md derives it. Ring-LWE masks (Lyubashevsky, Peikert, Regev, EUROCRYPT 2010), a "
    "preprocessed hint as in SimplePIR (Henzinger et al., USENIX Security 2023) kept by the owner and opened through "
    "correlated oblivious transfer, noise on what is opened by Hint-MLWE (Kim, Lee, Seo, Song, CRYPTO 2023)."
)
_INPUTS = (
    "owner: M (k, n), integers that stay the same for the whole job: bins of columns, or int64 within agreed bounds. "
    "asker: V (T, n) float64. The parameter set is one of H40, H32, X64, R64, T32."
)
_FAILS = (
    "ContractError when terms differ or a limit is reached, InputError when a vector does not fit (nothing is sent), "
    "ProtocolError on a wrong kind, shape or time-out. Vectors of a failed call count as used. Nothing that the asker "
    "sends, and no error of it, depends on the value of a correction."
)
_COST = (
    "Set-up 3 messages, 8.3 kB. For every vector b/8·n + 16·N bytes from the asker and w·N·k from the owner, "
    "to the asker w = 3 for H40 with gradients, else 4 for H40 and 32-bit sets; w = 8 otherwise; b = log2 q. Terms "
    "that plan ahead make the transfers of up to 8 vectors more."
)
_FRESH = (
    "s, e, e′, u and the transfers serve one vector, live in memory only, and are never stored or drawn again, also "
    "those that were made ahead; after a restart the transfers are set up anew and the vectors count as used."
)
_STEPS = "When vectors are asked and how many, n, k and the terms; with output to the asker not even the scale Δ."

TO_ASKER = Card(
    source=_SOURCE,
    security=(
        "v is private even against a malicious owner (ring-LWE, 132 to 222 bits by set; selective failure aside, see "
        "the notes). M is private against a semi-honest asker only, and only while equations are few."
    ),
    inputs=_INPUTS,
    reveals={
        "owner": ("Nothing of v.", _STEPS),
        "asker": (
            "M·w for a vector w = Δv + e that it knows, plus the owner's output noise u: every vector is one linear "
            "equation about every row of M.",
            "k and n; never more than T = n/100 vectors of a matrix with n of at least 1,000, unless the contract says "
            '"reveals: rows of M".',
        ),
    },
    cost=_COST + " The answer adds 8·k bytes.",
    fails=_FAILS,
    assurance="tested",
    notes=(
        "A malicious asker packs people into one vector: v = (2^0, 2^1, …) reads the bins of some 20 persons with H40 "
        "and of 60 with exact 64-bit output. Limits and audit do not stop this; noise from a privacy budget or a "
        "proof would.",
        "The output noise lowers the bits of an output; it is no simulation proof, and the limit on vectors is a rule "
        "of thumb from attacks that were run, not a bound.",
        "Selective failure: an owner that garbles one correction learns a bit of one s if it can tell from later "
        "traffic that a result was garbled.",
        "Precision with H40: bits left out of corrections and the output noise together put an error on one bin's sum "
        "over 80,000 rows of 0.02 of a row's weight with labels and counts, 0.05 with gradients, in 3 bytes a number.",
        "A repeated product on the same vector is answered by the asker from its stored reply.",
        _FRESH,
    ),
)

TO_OWNER = Card(
    source=_SOURCE,
    security="Semi-honest on both sides; v rests on ring-LWE with hints, 133 to 221 bits by set (H40, X64, R64).",
    inputs=_INPUTS + " |v| at most a public bound.",
    reveals={
        "owner": (
            "M·w + noise for w = Δv + e: k linear functions of v for every vector, at most k·T = n/10 of them, with n "
            'of at least 1,000, unless the contract says "reveals: v".',
            _STEPS,
        ),
        "asker": ("Nothing of M beyond k, n and the public bounds.",),
    },
    cost=_COST + " The opening adds b/8·k bytes.",
    fails=_FAILS,
    assurance="tested",
    notes=(
        "A malicious owner replaces its hint H by one of its choice and reads bits of s, hence v, from the opening: "
        "about 64 − log2 σ′ − 4 bits a row.",
        "A malicious owner chooses rows of M at will, unit rows or rows 2^(b·i), and so reads any v.",
        "Noise e′ of deviation σ·S, S a bound on the largest singular value of M that the asker computes from public "
        "constants, is part of every opening, for every k.",
        _FRESH,
    ),
)

TO_SHARES = Card(
    source=_SOURCE,
    security="Semi-honest on both sides; v rests on ring-LWE with hints, 133 to 221 bits by set (H40, X64, R64).",
    inputs=_INPUTS + " |v| at most a public bound, or words modulo q taken as they are.",
    reveals={
        "owner": ("A share modulo q of Δ·M·v, uniform on its own.", _STEPS),
        "asker": ("A share modulo q of Δ·M·v, uniform on its own; nothing of M beyond k, n and the public bounds.",),
    },
    cost=_COST,
    fails=_FAILS,
    assurance="tested",
    notes=(
        "The noise e′ is in the asker's share before it leaves the transfers; truncate shares by a protocol, never "
        "locally by rounding.",
        "What is opened later obeys the card of the protocol that opens it.",
        "A malicious owner replaces its hint H, and learns bits of s from whatever is opened later.",
        _FRESH,
    ),
)
