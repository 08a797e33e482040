"""Components in SD 1.5's architecture with random weights, for `./build.sh bench --bench browser` and `--bench native`.

    python models.py OUT [NAME...]

writes a folder for each component: `config.json` and `weights.safetensors` as diffusers and transformers would save
them, `model.onnx` made by torch.onnx from the very same module, every input and PyTorch's result as raw little-endian
values, and `case.json`, which says what is where and which versions made it. Pictures are channels-first in all of it.
"""

import json
import pathlib
import sys

import diffusers
import numpy as np
import onnx
import safetensors.torch
import torch
import transformers

PUBLISHED = pathlib.Path(__file__).parents[2] / "src" / "model" / "published" / "v1-5"


def published(component: str, **changes) -> dict:
    return json.loads((PUBLISHED / f"{component}.json").read_text()) | changes


def unet(config: dict, batch: int, side: int) -> dict:
    module = diffusers.UNet2DConditionModel.from_config(config)
    inputs = {
        "sample": torch.randn(batch, config["in_channels"], side, side),
        "timestep": torch.full((batch,), 500.0),
        "encoder_hidden_states": torch.randn(batch, 77, config["cross_attention_dim"]),
    }
    return {"component": "unet", "module": module, "inputs": inputs, "pick": lambda result: result[0]}


def vae_decoder(config: dict, batch: int, side: int) -> dict:
    vae = diffusers.AutoencoderKL.from_config(config)

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

        def forward(self, latents):
            return self.decoder(self.post_quant_conv(latents / vae.config.scaling_factor))

    inputs = {"latents": torch.randn(batch, config["latent_channels"], side, side)}
    return {"component": "vae_decoder", "module": Decoder(), "inputs": inputs, "pick": lambda result: result}


def text_encoder(config: dict, batch: int) -> dict:
    names = {"architectures", "model_type", "torch_dtype", "transformers_version", "_name_or_path"}
    settings = {name: value for name, value in config.items() if name not in names}
    clip = transformers.CLIPTextModel(transformers.CLIPTextConfig(**settings, attn_implementation="eager"))

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.clip = clip

        def forward(self, input_ids):
            return self.clip(input_ids=input_ids).last_hidden_state

    ids = torch.randint(0, config["vocab_size"] - 2, (batch, config["max_position_embeddings"]))
    ids[:, -1] = config["vocab_size"] - 1
    return {"component": "text_encoder", "module": Encoder(), "inputs": {"input_ids": ids}, "pick": lambda result: result}


# The published widths are too much for a processor that stands in for a GPU; `full` ones are for those who have one.
CASES = {
    "text-encoder": lambda: (
        config := published("text_encoder", hidden_size=384, intermediate_size=1536, num_attention_heads=6),
        text_encoder(config, 2),
    ),
    "unet": lambda: (
        config := published("unet", block_out_channels=[64, 128, 256, 256], cross_attention_dim=384),
        unet(config, 2, 32),
    ),
    "vae-decoder": lambda: (
        config := published("vae", block_out_channels=[64, 128, 256, 256]),
        vae_decoder(config, 1, 8),
    ),
    "full-unet": lambda: (config := published("unet"), unet(config, 1, 16)),
    "full-unet-256": lambda: (config := published("unet"), unet(config, 2, 32)),
}


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights that keep values near one, so that a wrong result shows; rounded to f16, so that any file type holds them."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        u = torch.rand(parameter.shape, generator=generator) * 2 - 1
        if name.endswith("embedding.weight"):
            u = 0.5 * u
        elif parameter.dim() >= 2:
            u = u * 1.5 / parameter[0].numel() ** 0.5
        else:
            u = 1 + 0.2 * u if name.endswith("weight") else 0.1 * u
        parameter.data = u.half().float()


def build(name: str) -> tuple[dict, dict]:
    """The config of a case, and its module with weights and inputs: the same every time."""
    seed = list(CASES).index(name)
    torch.manual_seed(seed)
    config, case = CASES[name]()
    randomise(case["module"].eval(), seed)
    return config, case


def tensor_file(folder: pathlib.Path, name: str, tensor: torch.Tensor) -> dict:
    file = f"{name}.bin"
    array = tensor.detach().contiguous().numpy()
    array.tofile(folder / file)
    return {"name": name, "file": file, "dims": list(array.shape), "dtype": str(array.dtype)}


def save_onnx(program: torch.onnx.ONNXProgram, folder: pathlib.Path, is_large: bool) -> list[str]:
    """Writes `model.onnx`. Gives the files beside it that hold the weights of a large one: a protobuf holds no more than
    2 GB, and a browser takes a file apart more easily when it is below one."""
    if not is_large:
        program.save(folder / "model.onnx", external_data=False)
        return []
    model = program.model_proto
    sizes: list[int] = []
    for tensor in model.graph.initializer:
        n_bytes = len(tensor.raw_data)
        # Scalars and shapes are looked at while the model is loaded.
        if n_bytes < 1024:
            continue
        if not sizes or sizes[-1] + n_bytes > 1_000_000_000:
            sizes.append(0)
        sizes[-1] += n_bytes
        onnx.external_data_helper.set_external_data(tensor, f"model.onnx.{len(sizes) - 1}")
    # What is there would be added to.
    for old in folder.glob("model.onnx.*"):
        old.unlink()
    onnx.save_model(model, folder / "model.onnx")
    return [f"model.onnx.{part}" for part in range(len(sizes))]


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    names = sys.argv[2:] or [name for name in CASES if not name.startswith("full-")]
    for name in names:
        config, case = build(name)
        module = case["module"]
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        # As a checkpoint has them: CLIP's names begin with text_model.
        state = {}
        for key, value in module.state_dict().items():
            key = key.removeprefix("clip.")
            if case["component"] == "text_encoder" and not key.startswith("text_model."):
                key = f"text_model.{key}"
            if not key.endswith("position_ids"):
                state[key] = value.half().contiguous()
        safetensors.torch.save_file(state, folder / "weights.safetensors")
        with torch.inference_mode():
            result = case["pick"](module(*case["inputs"].values()))
        program = torch.onnx.export(
            module, tuple(case["inputs"].values()), dynamo=True, opset_version=20,
            input_names=list(case["inputs"]), output_names=["result"], verbose=False,
        )
        external = save_onnx(program, folder, is_large=name.startswith("full-"))
        described = {
            "name": name,
            "component": case["component"],
            "inputs": [tensor_file(folder, key, value) for key, value in case["inputs"].items()],
            "result": tensor_file(folder, "result", result),
            "external": external,
            "n_parameters": sum(value.numel() for value in state.values()),
            "versions": {
                "torch": torch.__version__, "diffusers": diffusers.__version__,
                "transformers": transformers.__version__, "onnx": onnx.__version__, "numpy": np.__version__,
            },
        }
        (folder / "case.json").write_text(json.dumps(described, indent=1))
        print(f"{name}: {described['n_parameters'] / 1e6:.0f} million parameters, result {list(result.shape)}", flush=True)


if __name__ == "__main__":
    main()
