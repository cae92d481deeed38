"""Products of matrices keep BLAS to one thread, in whatever thread they run."""

import json
import subprocess
import sys

PROGRAM = """
import json, threading
import numpy as np
from threadpoolctl import threadpool_info
from atoll.crypto import word_matrix

found = []
def work():
    one = np.ones((80, 80), np.uint64)
    word_matrix.product(one, one)
    found.append([pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"]])

for _ in range(2):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(json.dumps(found))
"""


def test_products_keep_blas_to_one_thread() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=True)
    found = json.loads(done.stdout)
    assert found == [[1], [1]]
