"""The fixed-matrix product: sums of one site's columns, weighted by another site's hidden vector."""

from atoll.protocols.fixed_matrix_product.matrices import Dense, Facts, Indicator, Matrix
from atoll.protocols.fixed_matrix_product.protocol import (
    PROTOCOL,
    TO_ASKER,
    TO_OWNER,
    TO_SHARES,
    Asker,
    Owner,
    asker_setup,
    owner_setup,
)
from atoll.protocols.fixed_matrix_product.terms import Terms

__all__ = [
    "PROTOCOL",
    "TO_ASKER",
    "TO_OWNER",
    "TO_SHARES",
    "Asker",
    "Dense",
    "Facts",
    "Indicator",
    "Matrix",
    "Owner",
    "Terms",
    "asker_setup",
    "owner_setup",
]
