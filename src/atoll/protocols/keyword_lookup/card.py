"""The card of `keyword-lookup`."""

from atoll.core.protocol import Card

CARD = Card(
    source="Henzinger, Hong, Corrigan-Gibbs, Meiklejohn, Vaikuntanathan, USENIX Security 2023 (SimplePIR), sections 4 "
    "and 5, with records encrypted under `oprf` of their keys (RFC 9497) and placed by it.",
    security="The keys are hidden from a malicious server by LWE with n = 1024, q = 2^32, σ = 32, uniform secrets "
    "(core-SVP 118 bits), and by the blinding of `oprf`. The records are hidden from a malicious client by `oprf` and "
    "AES-SIV: whatever it asks, it opens one record for each counted query. Two parties.",
    inputs="client: canonical keys (`atoll.align`), at most 65,535 bytes each. server: a database of n records of one "
    "padded length, made by `atoll.query`, and how many queries this client may make.",
    reveals={
        "client": (
            "For each key it asks for the record, or that there is none.",
            "The number of records, their padded length, names and types of their columns.",
            "Ciphertexts of other records, which it cannot open; and with an update, which of them have changed.",
            "In later versions of one set-up, the new record of a key that it has asked for before.",
        ),
        "server": (
            "How many keys the client asks for, in which batches, and when.",
            "Which version of the hint the client had.",
        ),
    },
    cost="Once for each full set-up 4,096 L bytes of hint and the overflow, 2 % of the records; an update sends twice "
    "the bytes of the slots that changed. For each key 4 (m + L) + 64 bytes, m columns, L rows; a million records of "
    "256 bytes: m = 32,768, L = 9,520. Two round trips and a proof of 64 bytes for each batch of up to 32 keys. The "
    "server reads the database once for up to 4 keys.",
    fails="ContractError at the client, before anything is asked, when the server's limit is spent, and at the server "
    "when a client asks all the same; ProtocolError on wrong sizes, points off the group, terms that cannot be, a hint "
    "that does not fit its digest, or another content under a version that the client knows.",
    assurance="tested",
    notes=(
        "Every key sends one vector of the same length, hit or miss; a miss shows at the client only.",
        "A malicious server can answer wrongly, and a wrong answer looks like a miss: nothing proves an answer.",
        "Selective failure: a server that garbles part of the database and can see whether the client misses learns "
        "something of the key. The client does not ask again, and must not let the server see what it found.",
        "The client pins the digest of hint and OPRF key to the version, so that a server cannot show it one database "
        "today and another tomorrow under one version; clients can compare digests, and no client is served by a key "
        "of its own.",
        "A client can try keys that it has no business with: the limit on queries is what stops it from going through "
        "a whole range of them; it holds across restarts.",
    ),
)
