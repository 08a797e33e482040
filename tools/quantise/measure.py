"""What quantised weights cost in quality: pipelines of diffusers with the values that the blocks hold, against the plain ones.

  python measure.py all MODEL…            PSNR with everything in q8_0, q4_0 with and without the search for a scale, and mixed
  python measure.py one MODEL             one kind of layer in q4_0 alone, and one lifted to 8 bits, with its price
  python measure.py sizes                 bytes of the UNets of SD 1.5 and XL, each kind's share
  python measure.py prompts MODEL SPRITES the demo model's 117 prompts (sprites.pt is written by tools/demo-model/data.py)
  python measure.py step                  the error of one step of a UNet of SD 1.5's size with random weights (4 GB, minutes)

MODEL is a folder in diffusers' layout. blocks.py beside this file holds the arithmetic; it is that of src/weights/blocks.rs, held
to it by tests/quantised.rs. Versions are printed; measured with torch 2.11.0, diffusers 0.42.1, transformers 5.23.0.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DiffusionPipeline, UNet2DConditionModel

import blocks
from blocks import F16, Q4, Q8

PROMPTS = ["a red apple on a blue background", "a cat face", "an emoji of a rocket, black background", "a castle on a green background"]
COMPONENTS = ["text_encoder", "text_encoder_2", "unet"]
PUBLISHED = Path(__file__).resolve().parents[2] / "src" / "model" / "published"

# Kinds of layers of a UNet, by parts of the names: the first that fits.
KINDS = {
    "attn1.q,k": ["attn1.to_q", "attn1.to_k"],
    "attn1.v": ["attn1.to_v"],
    "attn1.out": ["attn1.to_out"],
    "attn2.q": ["attn2.to_q"],
    "attn2.k": ["attn2.to_k"],
    "attn2.v": ["attn2.to_v"],
    "attn2.out": ["attn2.to_out"],
    "ff.in": ["ff.net.0"],
    "ff.out": ["ff.net.2"],
    "proj_in": ["proj_in"],
    "proj_out": ["proj_out"],
    "conv_shortcut": ["conv_shortcut"],
    "conv1": [".conv1."],
    "conv2": [".conv2."],
    "samplers": ["downsamplers", "upsamplers"],
}
SECTIONS = ["down_blocks.0", "down_blocks.1", "down_blocks.2", "down_blocks.3", "mid_block", "up_blocks.0", "up_blocks.1", "up_blocks.2", "up_blocks.3"]


def layer_kind(name: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")


class Model:
    """A pipeline whose weights can be held in other ways."""

    def __init__(self, folder: str):
        variant = "fp16" if any(Path(folder).glob("unet/*.fp16.safetensors")) else None
        self.pipe = DiffusionPipeline.from_pretrained(folder, variant=variant, dtype=torch.float32, local_files_only=True)
        self.pipe.set_progress_bar_config(disable=True)
        # What a pipeline draws into whole pictures; tiny models have a factor of their own.
        self.side = 128 if "emoji" in folder else 64
        self.params = {}
        for component in COMPONENTS:
            module = getattr(self.pipe, component, None)
            for name, p in module.named_parameters() if module is not None else []:
                if p.dim() >= 2:
                    self.params[component, blocks.file_name(component, name)] = (p, p.detach().clone())
        self.cache = {}

    def hold(self, kind_of, search=True):
        """`kind_of(component, name, shape)` says f16, q8_0 or q4_0."""
        for (component, name), (p, plain) in self.params.items():
            kind = kind_of(component, name, plain.shape)
            key = (component, name, kind, search)
            if key not in self.cache:
                self.cache[key] = blocks.fake(plain, kind, search)
            p.data = self.cache[key]

    def draw(self, prompts, seeds, steps):
        out = []
        for prompt in prompts:
            for seed in seeds:
                g = torch.Generator().manual_seed(seed)
                r = self.pipe(prompt, num_inference_steps=steps, guidance_scale=7.5, height=self.side, width=self.side, generator=g, output_type="np")
                out.append(np.round(r.images[0] * 255))
        return np.stack(out)


def psnr(a, b):
    return np.array([10 * np.log10(255**2 / max(1e-9, ((x - y) ** 2).mean())) for x, y in zip(a, b)])


def published(kind: str, in_8_bits=None):
    return lambda _component, name, shape: blocks.kind_of(name, shape, kind, in_8_bits)


def shapes(version: str) -> dict:
    config = json.loads((PUBLISHED / version / "unet.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    return {name: tuple(p.shape) for name, p in unet.named_parameters()}


def megabytes(names: dict, kind_of) -> float:
    return sum(blocks.n_bytes(s, kind_of(n, s)) if len(s) > 1 else 4 * s[0] for n, s in names.items()) / 1e6


def everything(a):
    for folder in a.model:
        model = Model(folder)
        model.hold(published(F16))
        plain = model.draw(PROMPTS, a.seeds, a.steps)
        for label, kind, search, in_8 in [
            ("q8_0", Q8, True, None),
            ("q4_0, all of the UNet in 4 bits, plain scale", Q4, False, ["text_model."]),
            ("q4_0, all of the UNet in 4 bits, searched scale", Q4, True, ["text_model."]),
            ("q4_0, plain scale", Q4, False, None),
            ("q4_0", Q4, True, None),
        ]:
            model.hold(published(kind, in_8), search)
            p = psnr(model.draw(PROMPTS, a.seeds, a.steps), plain)
            print(f"{folder[-28:]:>28} {label}: {p.mean():.1f} dB, from {p.min():.1f} to {p.max():.1f}", flush=True)


def one_by_one(a):
    names = shapes("v1-5")
    for folder in a.model:
        model = Model(folder)
        model.hold(published(F16))
        plain = model.draw(PROMPTS[: a.n_prompts], a.seeds, a.steps)
        # All of the UNet in 4 bits, or the published assignment.
        base = published(Q4) if a.mixed else published(Q4, ["text_model."])
        model.hold(base, a.search)
        whole = psnr(model.draw(PROMPTS[: a.n_prompts], a.seeds, a.steps), plain).mean()
        print(f"{folder}: {whole:.2f} dB with {'the mixed assignment' if a.mixed else 'all of the UNet in 4 bits'}")
        groups = [(kind, lambda n, kind=kind: layer_kind(n) == kind) for kind in KINDS]
        groups += [(part, lambda n, part=part: n.startswith(part)) for part in SECTIONS]
        groups += [("text", lambda n: n.startswith("text_model."))]
        for label, fits in groups:
            if not any(fits(n) for _, n in model.params):
                continue
            model.hold(lambda c, n, s: blocks.kind_of(n, s, Q4, []) if fits(n) else F16, a.search)
            alone = psnr(model.draw(PROMPTS[: a.n_prompts], a.seeds, a.steps), plain).mean()
            model.hold(lambda c, n, s: blocks.kind_of(n, s, Q8, []) if fits(n) else base(c, n, s), a.search)
            lifted = psnr(model.draw(PROMPTS[: a.n_prompts], a.seeds, a.steps), plain).mean()
            n_values = sum(int(np.prod(s)) for n, s in names.items() if fits(n) and blocks.may_be_quantised(n, s))
            price = n_values / 2 / 1e6
            gain = lifted - whole
            print(f"  {label:>14}: alone {alone:.1f} dB, lifted {gain:+.2f} dB for {price:.1f} MB: {100 * gain / max(price, 1e-9):.2f} dB per 100 MB", flush=True)


def sizes(_a):
    for version in ["v1-5", "xl"]:
        names = shapes(version)
        print(version, {kind: round(megabytes(names, lambda n, s: blocks.kind_of(n, s, kind, [])), 1) for kind in [F16, Q8, Q4]},
              "mixed", round(megabytes(names, lambda n, s: blocks.kind_of(n, s, Q4)), 1))
        for kind in [*KINDS, "other"]:
            n = sum(int(np.prod(s)) for name, s in names.items() if layer_kind(name) == kind and blocks.may_be_quantised(name, s))
            print(f"  {kind:>14}: {n / 1e6:.1f} M values, 8 bits for 4 cost {n / 2e6:.1f} MB")


def ms_ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multi-scale structural similarity of pictures [N,3,H,W] in [0,1]: windows of 11 pixels, the first three of the five scales
    with their usual weights, scaled to a sum of one."""
    x = torch.arange(11) - 5.0
    g = torch.exp(-(x**2) / (2 * 1.5**2))
    window = (g[:, None] * g / (g.sum() ** 2)).expand(3, 1, 11, 11)
    blur = lambda t: torch.nn.functional.conv2d(t, window, groups=3)
    out, weights = 1.0, torch.tensor([0.0448, 0.2856, 0.3001])
    for i, weight in enumerate(weights / weights.sum()):
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        structure = (2 * cov + 0.0009) / (va + vb + 0.0009)
        light = (2 * ma * mb + 0.0001) / (ma**2 + mb**2 + 0.0001)
        value = (structure * light if i == 2 else structure).mean((1, 2, 3)).clamp(min=0)
        out = out * value**weight
        a, b = (torch.nn.functional.avg_pool2d(t, 2) for t in (a, b))
    return out


def prompts(a):
    sys.path.append(str(Path(__file__).resolve().parents[1] / "demo-model"))
    import evaluate

    folder, sprites = a.model
    model = Model(folder)
    refs = evaluate.references(str(Path(sprites).parent))
    cases = evaluate.cases_of(117, 1)
    plain = None
    for kind in (F16, Q8, Q4):
        model.hold(published(kind))
        x = evaluate.generate(model.pipe, [c[2] for c in cases], [1000 + k for k in range(len(cases))], a.steps, 5.0, batch=13)
        near = torch.cdist(torch.nn.functional.avg_pool2d(x, 4).flatten(1), refs).argmin(1)
        n_colors = len(evaluate.COLOR_NAMES)
        right = [(n // n_colors, n % n_colors) == c[:2] for n, c in zip(near.tolist(), cases)]
        line = f"{kind}: {sum(right)} of {len(right)} right"
        pixels = ((x + 1) / 2).clamp(0, 1)
        if plain is None:
            plain = pixels
        else:
            p = psnr((pixels * 255).round().numpy(), (plain * 255).round().numpy())
            encode = lambda t: torch.cat([model.pipe.vae.encode(part * 2 - 1).latent_dist.mean for part in t.split(13)])
            own, other = encode(pixels), encode(plain)
            line += f", PSNR {p.mean():.1f} dB (median {np.median(p):.1f}, least {p.min():.1f}), MS-SSIM {ms_ssim(pixels, plain).mean():.4f}"
            line += f", latents {(own - other).abs().mean() / other.std():.4f} of their deviation"
        print(line, flush=True)


def step(a):
    """A UNet of SD 1.5's shape at torch's usual random weights; one forward pass at a small latent."""
    torch.manual_seed(0)
    config = json.loads((PUBLISHED / "v1-5" / "unet.json").read_text())
    unet = UNet2DConditionModel.from_config(config).eval()
    x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 768)
    run = lambda: unet(x, 500, text).sample
    plain = run()
    error = lambda y: float((y - plain).norm() / plain.norm())
    params = {n: p for n, p in unet.named_parameters() if blocks.may_be_quantised(n, p.shape)}
    kept = {n: p.detach().clone() for n, p in params.items()}
    for kind in [*KINDS, "time_emb_proj"]:
        names = [n for n in params if (layer_kind(n) == kind or kind in n)]
        line = f"{kind:>14}:"
        for bits in (Q8, Q4):
            for n in names:
                params[n].data = blocks.fake(kept[n], bits)
            line += f" {bits} {100 * error(run()):.3f} %"
            for n in names:
                params[n].data = kept[n]
        print(line, flush=True)
    for bits in (Q8, Q4):
        for n, p in params.items():
            p.data = blocks.fake(kept[n], blocks.kind_of(n, p.shape, bits))
        print(f"{bits}, as assigned: {100 * error(run()):.3f} %", flush=True)


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("what", choices=["all", "one", "sizes", "prompts", "step"])
    ap.add_argument("model", nargs="*")
    ap.add_argument("--steps", type=int, default=8)
    ap.add_argument("--seeds", type=int, nargs="+", default=[1])
    ap.add_argument("--n-prompts", type=int, default=4)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--mixed", action="store_true")
    ap.add_argument("--search", action=argparse.BooleanOptionalAction, default=True)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}", file=sys.stderr)
    {"all": everything, "one": one_by_one, "sizes": sizes, "prompts": prompts, "step": step}[a.what](a)
