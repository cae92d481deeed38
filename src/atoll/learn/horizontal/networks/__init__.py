"""Networks trained at every site and averaged: approximate learning, for models that no sum can give exactly.

Start with `fit.py`, the loop; `algorithms.py` and `combine.py` hold what can be chosen.
"""

from atoll.learn.horizontal.networks.algorithms import FedAdam, FedAvg, FedNova, FedProx, FedYogi, Scaffold
from atoll.learn.horizontal.networks.averages import Averages, ExactAverages
from atoll.learn.horizontal.networks.combine import Average, Quantised, TopBlocks
from atoll.learn.horizontal.networks.fit import Fitted, Plan, fit
from atoll.learn.horizontal.networks.kept import Keeper, Round
from atoll.learn.horizontal.networks.simulate import Simulation, simulate
from atoll.learn.horizontal.networks.torch_trainer import TorchTrainer, batch_norms
from atoll.learn.horizontal.networks.trainer import Functions, Trained, Work

__all__ = [
    "Average",
    "Averages",
    "ExactAverages",
    "FedAdam",
    "FedAvg",
    "FedNova",
    "FedProx",
    "FedYogi",
    "Fitted",
    "Functions",
    "Keeper",
    "Plan",
    "Quantised",
    "Round",
    "Scaffold",
    "Simulation",
    "TopBlocks",
    "TorchTrainer",
    "Trained",
    "Work",
    "batch_norms",
    "fit",
    "simulate",
]
