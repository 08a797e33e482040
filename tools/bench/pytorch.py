"""A case of models.py in PyTorch, for `./build.sh bench --bench native`: `python pytorch.py CASE THREADS`.

Does one round for each line on standard input and prints its seconds.
"""

import sys
import time

import torch

from models import build

torch.set_num_threads(int(sys.argv[2]))
_, case = build(sys.argv[1])
inputs = list(case["inputs"].values())
print(f"PyTorch {torch.__version__}", flush=True)
with torch.inference_mode():
    for _ in sys.stdin:
        start = time.perf_counter()
        case["module"](*inputs)
        print(time.perf_counter() - start, flush=True)
