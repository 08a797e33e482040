"""One denoising step of SD 1.5 in stable-diffusion.cpp, for `./build.sh bench --bench native`: `python sd_cpp.py SIDE THREADS`.

Does one step with guidance for each line on standard input and prints its seconds. Random weights in f32, written once
beside the other peers in the folders that diffusers writes. The program prints on standard output from C, which is sent
elsewhere.
"""

import os
import pathlib
import sys

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import importlib.metadata

import diffusers
import safetensors.torch
import transformers

from models import published, randomise

FOLDER = pathlib.Path(sys.prefix).parent / "sd-1.5-random"


def write_model() -> None:
    """A whole model, since the program loads no part alone."""
    unet = diffusers.UNet2DConditionModel.from_config(published("unet"))
    vae = diffusers.AutoencoderKL.from_config(published("vae"))
    settings = {k: v for k, v in published("text_encoder").items() if k not in ("architectures", "model_type")}
    text_encoder = transformers.CLIPTextModel(transformers.CLIPTextConfig(**settings))
    for seed, (name, module) in enumerate({"unet": unet, "vae": vae, "text_encoder": text_encoder}.items()):
        randomise(module, seed)
        module.half().save_pretrained(FOLDER / name, safe_serialization=True)
    # Under the names of published files, which newer transformers no longer write.
    state = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in text_encoder.state_dict().items()}
    safetensors.torch.save_file(state, FOLDER / "text_encoder" / "model.safetensors")
    # Its presence says that all of the rest is there.
    (FOLDER / "model_index.json").write_text("{}")


def main() -> None:
    side, threads = int(sys.argv[1]), int(sys.argv[2])
    if not (FOLDER / "model_index.json").is_file():
        write_model()
    from stable_diffusion_cpp import StableDiffusion

    model = StableDiffusion(
        model_path=str(FOLDER), wtype="f32", n_threads=threads, vae_decode_only=True, diffusion_flash_attn=True, verbose=True
    )
    version = importlib.metadata.version("stable-diffusion-cpp-python")
    print(f"stable-diffusion.cpp (package {version})", file=answers)
    for _ in sys.stdin:
        took = []
        # A round is a picture of one step; the rest of the picture is outside of what is told.
        model.generate_image(
            prompt="", width=side, height=side, cfg_scale=7.5, sample_steps=1, sample_method="euler", seed=1,
            progress_callback=lambda step, steps, secs: took.append((step, steps, secs)),
        )
        print(f"took {took}", file=sys.stderr)
        secs = [secs for step, steps, secs in took if steps == 1 and secs > 0]
        print(secs[0] if secs else "nan", file=answers)


main()
