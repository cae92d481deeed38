"""Networks trained at every site and averaged: approximate learning, for models that no sum can give exactly.

Start with `fit.py`, the loop; `algorithms.py` and `combine.py` hold what can be chosen.
"""

from atoll.learn.horizontal.networks.algorithms import FedAdam, FedAvg, FedNova, FedProx, FedYogi, Scaffold
from atoll.learn.horizontal.networks.averages import Averages, ExactAverages, MaskedAverages
from atoll.learn.horizontal.networks.buffered_simulation import simulate_buffered
from atoll.learn.horizontal.networks.buffers import Buffering, Mixed
from atoll.learn.horizontal.networks.combine import Average, Quantised, TopBlocks
from atoll.learn.horizontal.networks.fit import Fitted, Plan, fit
from atoll.learn.horizontal.networks.flower_trainer import FlowerTrainer
from atoll.learn.horizontal.networks.gossip import Gossiped, gossip
from atoll.learn.horizontal.networks.kept import Keeper, Round
from atoll.learn.horizontal.networks.private import DpSgd, PrivateTrainer, SiteNoise, fit_private
from atoll.learn.horizontal.networks.robust import CentredClipping, GeometricMedian, NormBound, Seen
from atoll.learn.horizontal.networks.rules import Median, MultiKrum, TrimmedMean
from atoll.learn.horizontal.networks.seen_updates import AtAggregator, AtSite
from atoll.learn.horizontal.networks.shapley import Rated, linear_contributions
from atoll.learn.horizontal.networks.simulate import Simulation, simulate
from atoll.learn.horizontal.networks.texts import hashed_words
from atoll.learn.horizontal.networks.torch_trainer import TorchTrainer, batch_norms
from atoll.learn.horizontal.networks.trainer import Functions, Trained, Work

__all__ = [
    "AtAggregator",
    "AtSite",
    "Average",
    "Averages",
    "Buffering",
    "CentredClipping",
    "DpSgd",
    "ExactAverages",
    "FedAdam",
    "FedAvg",
    "FedNova",
    "FedProx",
    "FedYogi",
    "Fitted",
    "FlowerTrainer",
    "Functions",
    "GeometricMedian",
    "Gossiped",
    "Keeper",
    "MaskedAverages",
    "Median",
    "Mixed",
    "MultiKrum",
    "NormBound",
    "Plan",
    "PrivateTrainer",
    "Quantised",
    "Rated",
    "Round",
    "Scaffold",
    "Seen",
    "Simulation",
    "SiteNoise",
    "TopBlocks",
    "TorchTrainer",
    "Trained",
    "TrimmedMean",
    "Work",
    "batch_norms",
    "fit",
    "fit_private",
    "gossip",
    "hashed_words",
    "linear_contributions",
    "simulate",
    "simulate_buffered",
]
