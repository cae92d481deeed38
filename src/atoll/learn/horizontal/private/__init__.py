"""Statistics and models from totals that all hold noise: what they tell of one row is bounded (differential privacy).

Each module has a `plan`, which says what will be opened and how much of ρ it takes, and a function that runs on it.
Neighbouring tables differ in one row at one site, which is there or not.
"""
