"""A bank, a business registry and a regional agency train a credit model on small-business loans."""
