"""What stable-diffusion.cpp draws from the files that `darkroom convert` writes: `python sd_cpp_files.py DARKROOM FOLDER`.

DARKROOM is the binary, FOLDER a place for some 7 GB, which are kept. A model in SD 1.5's sizes with random weights is
written as a folder of diffusers, and converted to one safetensors file and to GGUF (q8_0, q4_0). stable-diffusion.cpp
draws with the folder and with each file, Darkroom too: two steps of Euler, 64x64 pixels, from the same noise (that of
torch's generator). Prints a line of JSON for each file: PSNR, in dB, of stable-diffusion.cpp's picture against the one that
it draws from the folder, and against Darkroom's from the same file. The program prints on standard output from C, which is
sent elsewhere.
"""

import json
import os
import pathlib
import subprocess
import sys

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import diffusers
import numpy as np
import safetensors.torch
import transformers
from PIL import Image

from models import PUBLISHED, published, randomise

PROMPT, SEED, SIDE, GUIDANCE = "a red fox in the snow", 7, 64, 5.0
# The training steps that stable-diffusion.cpp visits in two.
TIMESTEPS = "999,0"
MERGES = pathlib.Path(__file__).parents[2] / "www" / "clip_merges.txt"


def write_tokenizer(folder: pathlib.Path) -> None:
    """CLIP's vocabulary, which follows from its merges."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    characters = [chr(code) for code in printed] + [chr(256 + n) for n in range(256 - len(printed))]
    merges = [line for line in MERGES.read_text().splitlines() if line and not line.startswith("#version")]
    tokens = characters + [c + "</w>" for c in characters] + [line.replace(" ", "") for line in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: idx for idx, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text(MERGES.read_text())


def write_model(folder: pathlib.Path) -> None:
    """A whole model with random weights, as diffusers would save it in f16."""
    unet = diffusers.UNet2DConditionModel.from_config(published("unet"))
    vae = diffusers.AutoencoderKL.from_config(published("vae"))
    settings = {k: v for k, v in published("text_encoder").items() if k not in ("architectures", "model_type")}
    text_encoder = transformers.CLIPTextModel(transformers.CLIPTextConfig(**settings))
    for seed, (name, module) in enumerate({"unet": unet, "vae": vae, "text_encoder": text_encoder}.items()):
        randomise(module, seed)
        module.half().save_pretrained(folder / name, safe_serialization=True)
        (folder / name / "config.json").write_text((PUBLISHED / f"{name}.json").read_text())
    # Under the names of published files, which newer transformers no longer write.
    state = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in text_encoder.state_dict().items()}
    safetensors.torch.save_file(state, folder / "text_encoder" / "model.safetensors")
    write_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text((PUBLISHED / "scheduler.json").read_text())
    # Its presence says that all of the rest is there.
    (folder / "model_index.json").write_text((PUBLISHED / "model_index.json").read_text())


def of_darkroom(darkroom: str, model: pathlib.Path, picture: pathlib.Path) -> np.ndarray:
    command = [darkroom, "generate", "--model", str(model), "--prompt", PROMPT, "--seed", str(SEED), "--guidance", str(GUIDANCE)]
    command += ["--sampler", "euler", "--timesteps", TIMESTEPS, "--width", str(SIDE), "--height", str(SIDE), "-o", str(picture)]
    subprocess.run(command + (["--weights", "f32"] if model.suffix == ".gguf" else []), check=True)
    return np.asarray(Image.open(picture).convert("RGB"), dtype=np.float64)


def of_sd_cpp(model: pathlib.Path, picture: pathlib.Path) -> np.ndarray:
    """In a process of its own, which gives back its memory."""
    subprocess.run([sys.executable, __file__, "--draw", str(model), str(picture)], check=True)
    return np.asarray(Image.open(picture).convert("RGB"), dtype=np.float64)


def draw(model: str, picture: str) -> None:
    from stable_diffusion_cpp import StableDiffusion

    program = StableDiffusion(model_path=model, rng_type="cpu", sampler_rng_type="cpu", n_threads=2, verbose=True)
    images = program.generate_image(
        prompt=PROMPT, width=SIDE, height=SIDE, cfg_scale=GUIDANCE, sample_steps=2, sample_method="euler",
        scheduler="discrete", seed=SEED,
    )
    images[0].save(picture)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a - b) ** 2)
    return round(10 * np.log10(255**2 / error), 1) if error > 0 else float("inf")


def main() -> None:
    darkroom, folder = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2])
    original = folder / "folder"
    if not (original / "model_index.json").is_file():
        write_model(original)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    reference = of_sd_cpp(original, pictures / "sd-cpp-folder.png")
    files = {"one.safetensors": [], "q8_0.gguf": [], "q4_0.gguf": ["--type", "q4_0"]}
    for name, more in {"folder": [], **files}.items():
        path = folder / name
        if not path.exists():
            subprocess.run([darkroom, "convert", "--model", str(original), "-o", str(path), *more], check=True)
        theirs = of_sd_cpp(path, pictures / f"sd-cpp-{path.stem}.png")
        ours = of_darkroom(darkroom, path, pictures / f"darkroom-{path.stem}.png")
        row = {"file": name, "against_the_folder_db": psnr(theirs, reference), "against_darkroom_db": psnr(theirs, ours)}
        row |= {"levels": [theirs.min(), theirs.max(), round(theirs.std(), 1)]}
        print(json.dumps(row), file=answers)


if sys.argv[1] == "--draw":
    draw(sys.argv[2], sys.argv[3])
else:
    main()
