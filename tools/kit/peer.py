"""PyTorch with diffusers as the peer of a benchmark on an NVIDIA GPU: `python3 peer.py --configs FOLDER`.

FOLDER is a copy of src/model/published. The first line on standard output says who answers; where PyTorch, CUDA or
diffusers is missing it is {"missing": "why"}, and the process ends with status 0. After that, each line of standard
input is a request and gets one line as its answer, so that a program can take turns with its own rounds. All lines are
JSON. A request that fails answers {"error": "why"}, and the next one is read.

    {"load": "xl-unet", "dtype": "f16"}     builds a module with random weights and warms it up
    {"round": true}                         one forward pass: "secs", and "graph_secs" once there is a CUDA graph
    {"graph": true}                         captures the forward pass in a CUDA graph, or says why not
    {"memory": true}                        the most bytes held by tensors since the module was warm, a graph's included
    {"unload": true}
    {"matmul": [m, n, k], "dtype": "f16"}
    {"conv": [batch, h, w, c_in, c_out, kernel], "dtype": "f16"}
    {"attention": [batch, heads, queries, keys, head_size], "dtype": "f16"}

Options of `load`: "channels_last": true for that memory format, "batch" and "side" for other latents than the usual,
"benchmark": false for cuDNN's own choice of algorithms. Options of `load`, `matmul`, `conv` and `attention`: "tf32":
true or false for both matrix products and convolutions. Left out, PyTorch's defaults hold: TF32 in the convolutions of
f32, not in its matrix products. Each answer says which it was.

Modules run eagerly, with the attention that diffusers takes by default. `cudnn.benchmark` is on before the warm-up, so
that no algorithm is tried in a timed round. It does not compile modules, does not look at results beyond whether they
are finite, and downloads nothing.
"""

import argparse
import gc
import json
import os
import pathlib
import platform
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A folder of configs, the component, batch, and the latents' height and width.
MODULES = {
    "sd15-unet": ("v1-5", "unet", 2, 64),
    "sd21-unet": ("v2-1", "unet", 2, 96),
    "xl-unet": ("xl", "unet", 2, 128),
    "turbo-unet": ("turbo", "unet", 1, 64),
    "sd15-vae": ("v1-5", "vae", 1, 64),
    "xl-vae": ("xl", "vae", 1, 128),
}
PROMPT_TOKENS = 77
TIME_IDS = 6
WARM_UP_ROUNDS = 3

# An operation is timed in samples of enough calls to last this long. One call's overhead is not one kernel's time.
SAMPLE_SECS = 0.004
N_SAMPLES = 15


class RequestError(Exception):
    """A request that asks for what is not there."""


def shrunk(config: dict) -> dict:
    """The same architecture at a width that a test on a processor has time for."""
    n_blocks = len(config["block_out_channels"])
    changes = {"block_out_channels": [32] + [64] * (n_blocks - 1)}
    if "cross_attention_dim" in config:
        changes["cross_attention_dim"] = 64
    if isinstance(config.get("attention_head_dim"), list):
        changes["attention_head_dim"] = [1] + [2] * (n_blocks - 1)
    if isinstance(config.get("transformer_layers_per_block"), list):
        changes["transformer_layers_per_block"] = [min(n, 2) for n in config["transformer_layers_per_block"]]
    return config | changes


class Peer:
    def __init__(self, torch, diffusers, device: str, configs: pathlib.Path, tiny: bool):
        self.torch, self.diffusers, self.device, self.configs, self.tiny = torch, diffusers, device, configs, tiny
        self.on_cuda = device == "cuda"
        self.default_tf32 = {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "conv": torch.backends.cudnn.allow_tf32,
        }
        self.forget()

    def forget(self) -> None:
        self.module = self.forward = self.graph = self.result = None
        self.settings: dict = {}

    def sync(self) -> None:
        if self.on_cuda:
            self.torch.cuda.synchronize()

    def timed(self, run) -> float:
        self.sync()
        start = time.perf_counter()
        run()
        self.sync()
        return time.perf_counter() - start

    def dtype(self, request: dict):
        dtypes = {"f16": self.torch.float16, "f32": self.torch.float32}
        if request.get("dtype") not in dtypes:
            raise RequestError(f"dtype is f16 or f32, not {request.get('dtype')!r}")
        return dtypes[request["dtype"]]

    def set_up(self, request: dict) -> dict:
        """Sets the global switches of PyTorch that a request asks for, and says how they stand."""
        wanted = request.get("tf32")
        tf32 = dict(self.default_tf32) if wanted is None else {"matmul": bool(wanted), "conv": bool(wanted)}
        backends = self.torch.backends
        backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = tf32["matmul"], tf32["conv"]
        backends.cudnn.benchmark = bool(request.get("benchmark", True))
        return {"tf32": tf32, "cudnn_benchmark": backends.cudnn.benchmark}

    def random(self, shape: list[int], dtype, generator=None):
        return self.torch.randn(shape, device=self.device, dtype=dtype, generator=generator)

    def build(self, component: str, config: dict, dtype, generator):
        """The module on the device. It is laid out on the meta device first: PyTorch's own initialisation of XL's 2.6
        billion parameters on a processor takes longer than all of its rounds."""
        torch = self.torch
        kind = self.diffusers.UNet2DConditionModel if component == "unet" else self.diffusers.AutoencoderKL
        with torch.device("meta"):
            module = kind.from_config(config)
        if component == "vae":
            # Only the decoder runs, so only the decoder is counted.
            del module.encoder, module.quant_conv
        if any(True for _ in module.buffers()):
            raise RequestError("the module has buffers, which would be left without values")
        module = module.to(dtype).to_empty(device=self.device).eval().requires_grad_(False)
        for name, parameter in module.named_parameters():
            if parameter.dim() >= 2:
                # The variance of a layer's input is its output's.
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            elif name.endswith("weight"):
                parameter.fill_(1)
            else:
                parameter.normal_(0, 0.02, generator=generator)
        return module

    def forward_of(self, component: str, module, batch: int, side: int, dtype, generator, memory_format):
        """A forward pass over fixed inputs, as the pipelines of diffusers call it."""
        config = module.config
        n_channels = config.in_channels if component == "unet" else config.latent_channels
        latents = self.random([batch, n_channels, side, side], dtype, generator).to(memory_format=memory_format)
        if component == "vae":
            return lambda: module.decode(latents / config.scaling_factor, return_dict=False)[0]
        timestep = self.torch.tensor(500, device=self.device)
        context = self.random([batch, PROMPT_TOKENS, config.cross_attention_dim], dtype, generator)
        added = None
        if config.addition_embed_type == "text_time":
            text_width = config.projection_class_embeddings_input_dim - TIME_IDS * config.addition_time_embed_dim
            pixels = 8.0 * side
            sizes = [[pixels, pixels, 0, 0, pixels, pixels]] * batch
            time_ids = self.torch.tensor(sizes, device=self.device, dtype=dtype)
            added = {"text_embeds": self.random([batch, text_width], dtype, generator), "time_ids": time_ids}
        return lambda: module(
            latents, timestep, encoder_hidden_states=context, added_cond_kwargs=added, return_dict=False
        )[0]

    def load(self, request: dict) -> dict:
        torch = self.torch
        if request["load"] not in MODULES:
            raise RequestError(f"there is no module {request['load']!r}; there are {', '.join(MODULES)}")
        folder, component, batch, side = MODULES[request["load"]]
        batch, side = request.get("batch", batch), request.get("side", 16 if self.tiny else side)
        dtype = self.dtype(request)
        self.unload(request)
        config = json.loads((self.configs / folder / f"{component}.json").read_text())
        channels_last = bool(request.get("channels_last", False))
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        switches = self.set_up(request)
        generator = torch.Generator(self.device).manual_seed(1)

        def build():
            self.module = self.build(component, shrunk(config) if self.tiny else config, dtype, generator)
            if channels_last:
                self.module.to(memory_format=memory_format)
            self.forward = self.forward_of(component, self.module, batch, side, dtype, generator, memory_format)

        def warm_up():
            for _ in range(WARM_UP_ROUNDS):
                self.result = self.forward()

        try:
            secs, warm_up_secs = self.timed(build), self.timed(warm_up)
            finite = bool(torch.isfinite(self.result).all())
            shape = list(self.result.shape)
            self.result = None
            if self.on_cuda:
                # What cuDNN tries out while it picks algorithms is not what the module needs.
                torch.cuda.reset_peak_memory_stats()
                self.timed(self.forward)
        except Exception:
            self.unload(request)
            raise
        self.settings = request
        return {
            "ok": True, "secs": secs, "warm_up_secs": warm_up_secs, "warm_up_rounds": WARM_UP_ROUNDS,
            "params": sum(parameter.numel() for parameter in self.module.parameters()), "flops": None,
            "dtype": request["dtype"], "channels_last": channels_last, "batch": batch, "side": side,
            "attention": sorted({type(processor).__name__ for processor in self.module.attn_processors.values()}),
            "result": shape, "finite": finite,
        } | switches

    def loaded(self) -> None:
        if self.forward is None:
            raise RequestError("no module is loaded")
        self.set_up(self.settings)

    def round(self, _: dict) -> dict:
        self.loaded()
        answer = {"secs": self.timed(self.forward)}
        if self.graph is not None:
            answer["graph_secs"] = self.timed(self.graph.replay)
        return answer

    def captured(self, run):
        """A CUDA graph of `run`, and what `run` gives, which has to live as long as the graph."""
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run()
        return graph, result

    def capture(self, _: dict) -> dict:
        self.loaded()
        if not self.on_cuda:
            return {"ok": False, "reason": "CUDA graphs need a CUDA device"}
        self.graph = self.result = None
        start = time.perf_counter()
        try:
            graph, self.result = self.captured(self.forward)
            # The first replay uploads the graph.
            self.timed(graph.replay)
        except Exception as error:
            self.result = None
            return {"ok": False, "reason": described(error)}
        self.graph = graph
        return {"ok": True, "secs": time.perf_counter() - start}

    def memory(self, _: dict) -> dict:
        if not self.on_cuda:
            return {"peak": None}
        cuda = self.torch.cuda
        peak, allocated, reserved = cuda.max_memory_allocated(), cuda.memory_allocated(), cuda.memory_reserved()
        return {"peak": peak, "allocated": allocated, "reserved": reserved}

    def unload(self, _: dict) -> dict:
        self.forget()
        gc.collect()
        if self.on_cuda:
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()
        return {"ok": True}

    def sample_secs(self, run) -> float:
        """The seconds of one `run`, on the device's own clock where it has one."""
        if not self.on_cuda:
            return self.timed(run)
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def median(self, run, n_calls: int) -> float:
        return statistics.median(self.sample_secs(run) for _ in range(N_SAMPLES)) / n_calls

    def timed_op(self, op, request: dict) -> dict:
        """The median seconds of one call: launched one by one ("secs"), and in a CUDA graph, whose kernels follow each
        other without Python ("graph_secs"). The operands are the same in each call, so small ones stay in the cache."""
        switches = self.set_up(request)
        for _ in range(WARM_UP_ROUNDS):
            op()
        estimate = min(self.timed(op) for _ in range(3))
        n_calls = max(1, min(1000, round(SAMPLE_SECS / max(estimate, 1e-7))))

        def calls() -> None:
            for _ in range(n_calls):
                op()

        answer = {"secs": self.median(calls, n_calls), "graph_secs": None, "calls": n_calls, "samples": N_SAMPLES}
        if self.on_cuda:
            try:
                graph, _ = self.captured(calls)
                self.timed(graph.replay)
                answer["graph_secs"] = self.median(graph.replay, n_calls)
            except Exception as error:
                answer["graph_reason"] = described(error)
        return answer | switches

    def matmul(self, request: dict) -> dict:
        m, n, k = request["matmul"]
        dtype = self.dtype(request)
        a, b = self.random([m, k], dtype), self.random([k, n], dtype)
        return self.timed_op(lambda: self.torch.matmul(a, b), request)

    def conv(self, request: dict) -> dict:
        """With bias, of stride 1, padded to the size of its input, everything in channels_last."""
        batch, height, width, c_in, c_out, kernel = request["conv"]
        dtype, functional = self.dtype(request), self.torch.nn.functional
        nhwc = {"memory_format": self.torch.channels_last}
        image = self.random([batch, c_in, height, width], dtype).to(**nhwc)
        weight = self.random([c_out, c_in, kernel, kernel], dtype).to(**nhwc)
        bias = self.random([c_out], dtype)
        return self.timed_op(lambda: functional.conv2d(image, weight, bias, padding=kernel // 2), request)

    def attention(self, request: dict) -> dict:
        """Laid out as in diffusers: the heads of one token lie beside each other."""
        batch, n_heads, n_queries, n_keys, head_size = request["attention"]
        dtype, functional = self.dtype(request), self.torch.nn.functional
        query, key, value = (
            self.random([batch, n_tokens, n_heads, head_size], dtype).transpose(1, 2)
            for n_tokens in (n_queries, n_keys, n_keys)
        )
        return self.timed_op(lambda: functional.scaled_dot_product_attention(query, key, value), request)

    def answer(self, line: str) -> dict:
        requests = {
            "load": self.load, "round": self.round, "graph": self.capture, "memory": self.memory,
            "unload": self.unload, "matmul": self.matmul, "conv": self.conv, "attention": self.attention,
        }
        try:
            request = json.loads(line)
            names = [name for name in requests if isinstance(request, dict) and name in request]
            if len(names) != 1:
                raise RequestError(f"a request is an object with one of {', '.join(requests)}")
            with self.torch.inference_mode():
                return requests[names[0]](request)
        except Exception as error:
            # A CUDA error shows at the next call; what is left of this one is freed where that can be done.
            gc.collect()
            return {"error": described(error)}


def described(error: Exception) -> str:
    if isinstance(error, RequestError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def start(device: str, configs: pathlib.Path, tiny: bool) -> tuple[Peer | None, dict]:
    """The peer, with what it says of itself; or none, with the reason."""
    begun = time.perf_counter()
    try:
        import torch
    except Exception as error:
        return None, {"missing": f"PyTorch does not load: {described(error)}"}
    if device == "cuda" and not torch.cuda.is_available():
        return None, {"missing": f"PyTorch {torch.__version__} finds no CUDA device"}
    try:
        import diffusers

        # Both are loaded when they are first named.
        diffusers.UNet2DConditionModel, diffusers.AutoencoderKL  # noqa: B018
        # It warns of each cast to f16, and lists no module that should not be cast.
        diffusers.utils.logging.set_verbosity_error()
    except Exception as error:
        return None, {"missing": f"diffusers does not load: {described(error)}"}
    try:
        if device == "cuda":
            torch.zeros(1, device="cuda")
            name = torch.cuda.get_device_name()
        else:
            name = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
        peer = Peer(torch, diffusers, device, configs, tiny)
    except Exception as error:
        return None, {"missing": f"PyTorch {torch.__version__} does not start: {described(error)}"}
    return peer, {
        "who": f"PyTorch {torch.__version__}", "device": name, "cuda": torch.version.cuda if peer.on_cuda else None,
        "cudnn": torch.backends.cudnn.version() if peer.on_cuda else None, "diffusers": diffusers.__version__,
        "tf32": peer.default_tf32, "start_secs": time.perf_counter() - begun,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--configs", type=pathlib.Path, required=True, help="a copy of src/model/published")
    arguments.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments.add_argument("--tiny", action="store_true", help="narrow modules and 16x16 latents, for tests")
    given = arguments.parse_args()
    # What libraries print on standard output must not stand between two answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    peer, hello = start(given.device, given.configs, given.tiny)
    say(hello)
    if peer is None:
        return
    for line in sys.stdin:
        say(peer.answer(line))


if __name__ == "__main__":
    main()
