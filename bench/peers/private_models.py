"""Linear and logistic regression with noise by diffprivlib, all rows in one place.  Run in an environment of its own.

    python private_models.py '{"bounds": {…}, "label": "yrs_married", "epsilons": [1], "times": 3}'

Prints one line of JSON: the median R² and AUC on held-out rows by model and ε.
"""

import json
import statistics
import sys
import warnings

import numpy as np
from diffprivlib.models import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from statsmodels.datasets import fair

warnings.filterwarnings("ignore")
ASKED = json.loads(sys.argv[1])
NAMES = list(ASKED["bounds"])
LOW, HIGH = np.array(list(ASKED["bounds"].values()), float).T


def main():
    """Fit both models at every ε."""
    data = fair.load_pandas().data
    held = np.random.default_rng(0).random(len(data)) < 0.2
    X, y = data[NAMES].to_numpy(float), (data.affairs > 0).to_numpy(float)
    Z = (X - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2)
    label = NAMES.index(ASKED["label"])
    use = [at for at in range(len(NAMES)) if at != label]
    found = {}
    for epsilon in ASKED["epsilons"]:
        areas, shares = [], []
        for _ in range(ASKED["times"]):
            model = LogisticRegression(epsilon=epsilon, data_norm=len(NAMES) ** 0.5).fit(Z[~held], y[~held])
            areas.append(roc_auc_score(y[held], model.decision_function(Z[held])))
            bounds = {"bounds_X": (LOW[use], HIGH[use]), "bounds_y": (LOW[label], HIGH[label])}
            line = LinearRegression(epsilon=epsilon, **bounds).fit(X[~held][:, use], X[~held, label])
            shares.append(max(0.0, line.score(X[held][:, use], X[held, label])))
        found[f"logistic regression {epsilon:g}"] = statistics.median(areas)
        found[f"linear regression {epsilon:g}"] = statistics.median(shares)
    print(json.dumps(found))


main()
