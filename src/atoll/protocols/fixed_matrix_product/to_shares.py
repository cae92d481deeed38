"""The fixed-matrix product with the output as additive shares: roles and messages as in `protocol`."""

from atoll.core.protocol import Protocol
from atoll.protocols import oblivious_transfer
from atoll.protocols.fixed_matrix_product import cards
from atoll.protocols.fixed_matrix_product.protocol import ROLES, STEPS

PROTOCOL = Protocol(
    name="fixed-matrix-product-to-shares",
    version=1,
    title="Columns of one site times a hidden vector of another, shared by both",
    card=cards.TO_SHARES,
    roles=ROLES,
    messages=STEPS,
    uses=(oblivious_transfer.PROTOCOL,),
)
