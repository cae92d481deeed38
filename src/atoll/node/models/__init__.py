"""Models that sites with the same columns can fit: their keys in the job, what they reveal, how they predict."""

from atoll.node.models.base import Coefficient, Fitted, Grid, Here, Kind, Label
from atoll.node.models.classifiers import Bayes, Discriminant, Multinomial, Svm
from atoll.node.models.networks import Network
from atoll.node.models.regressions import Cox, Gamma, Linear, Logistic, Poisson
from atoll.node.models.shapes import KMeans, Pca
from atoll.node.models.trees import Boosted, Forest

__all__ = [
    "AnyModel",
    "Coefficient",
    "Fitted",
    "Grid",
    "Here",
    "Kind",
    "Label",
]

AnyModel = (
    Linear
    | Logistic
    | Poisson
    | Gamma
    | Cox
    | Multinomial
    | Svm
    | Discriminant
    | Bayes
    | Boosted
    | Forest
    | KMeans
    | Pca
    | Network
)
