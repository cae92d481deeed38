"""Deal a thousand real loans to three branches: writes north.csv, south.csv and west.csv here.

The loans are the Statlog German credit data (UCI Machine Learning Repository), which come with Atoll.
"""

import csv
from pathlib import Path

from atoll.solutions import credit_risk

BRANCHES = {"north": 450, "south": 350, "west": 200}

with (Path(credit_risk.__path__[0]) / "german_credit.csv").open(newline="") as file:
    header, *loans = csv.reader(file)

for name, rows in BRANCHES.items():
    mine, loans = loans[:rows], loans[rows:]
    with Path(f"{name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *mine])
    print(f"{name}.csv: {len(mine)} loans")
