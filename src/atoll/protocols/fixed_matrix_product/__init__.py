"""The fixed-matrix product: columns of one site times a hidden vector of another.

The output goes to the site of the vector (`protocol`), of the columns (`to_owner`), or to both as shares (`to_shares`).
"""

from atoll.protocols.fixed_matrix_product.matrices import Dense, Facts, Indicator, Matrix
from atoll.protocols.fixed_matrix_product.protocol import PROTOCOL as TO_ASKER
from atoll.protocols.fixed_matrix_product.protocol import Asker, Owner, asker_setup, owner_setup
from atoll.protocols.fixed_matrix_product.terms import Terms
from atoll.protocols.fixed_matrix_product.to_owner import PROTOCOL as TO_OWNER
from atoll.protocols.fixed_matrix_product.to_shares import PROTOCOL as TO_SHARES

__all__ = [
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
