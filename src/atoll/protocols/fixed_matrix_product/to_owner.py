"""The fixed-matrix product with the output to the owner of the matrix: roles and messages as in `protocol`."""

from atoll.core.protocol import Protocol
from atoll.protocols import oblivious_transfer
from atoll.protocols.fixed_matrix_product import cards
from atoll.protocols.fixed_matrix_product.protocol import ROLES, STEPS, Opening

PROTOCOL = Protocol(
    name="fixed-matrix-product-to-owner",
    version=1,
    title="Columns of one site times a hidden vector of another, to the columns' site",
    card=cards.TO_OWNER,
    roles=ROLES,
    messages=(*STEPS, Opening),
    uses=(oblivious_transfer.PROTOCOL,),
)
