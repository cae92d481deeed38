"""Private gradient-boosted trees: one site has the label, every site keeps its columns.

Start with `protocol.py` (training) and `predict.py` (scoring): messages and both roles side by side.
"""
