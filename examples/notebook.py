"""Two institutions in one process: paste it into a notebook, or run `python examples/notebook.py`."""

import numpy as np

import atoll

rng = np.random.default_rng(7)
people = 6_000
visits, age = rng.poisson(6, people), rng.integers(18, 90, people)
left = rng.random(people) < 1 / (1 + np.exp(1.5 - 1.4 * (visits < 4) - 0.5 * (age < 30)))

# Any frame will do: pandas, polars, or a dict of arrays. Each site lacks some customers.
here, there = rng.random(people) < 0.9, rng.random(people) < 0.9
customer = np.array([f"C{i:05}" for i in range(people)])
bank = {"customer": customer[here], "age": age[here], "left": left[here]}
shop = {"customer": customer[there], "visits": visits[there]}

# A whole job: align, split, bin, train, evaluate. Same steps and messages as between two machines.
run = atoll.simulate(
    {"bank": bank, "shop": shop}, id="customer", label="left", trees={"n_estimators": 4, "max_depth": 3}
)
print(run)
print("report", run.path("bank"))

# Or an estimator with scikit-learn's manners, where row i is the same customer in every table.
X = {"bank": {"age": age}, "shop": {"visits": visits}}
model = atoll.VerticalBoostedTreesClassifier(n_estimators=4, max_depth=3).fit(X, left)
print("probability of leaving:", model.predict_proba(X)[:3, 1].round(3))
