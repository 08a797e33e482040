"""One guided UNet step of SD 1.5's architecture in PyTorch, for `./build.sh bench --bench unet`.

Does one round for each line on standard input and prints its seconds. Random weights, 256x256, batch 2, f32.
"""

import json
import pathlib
import sys
import time

import diffusers
import torch

torch.set_num_threads(int(sys.argv[1]))
config = json.loads((pathlib.Path(__file__).parents[2] / "src/model/published/v1-5/unet.json").read_text())
torch.manual_seed(0)
unet = diffusers.UNet2DConditionModel.from_config(config).eval()
sample = torch.randn(2, 4, 32, 32)
context = torch.randn(2, 77, 768)
print(f"PyTorch {torch.__version__}, diffusers {diffusers.__version__}, {torch.get_num_threads()} threads", flush=True)
with torch.inference_mode():
    for _ in sys.stdin:
        start = time.perf_counter()
        unet(sample, 500, encoder_hidden_states=context)
        print(time.perf_counter() - start, flush=True)
