"""Weights in blocks as src/weights/blocks.rs makes them, and which weights get them as src/weights/weight_type.rs says.

Imported by measure.py and by tools/fixtures/quantised.py.
"""

import torch

BLOCK = 32
FACTOR = 1024.0
Q8, Q4, F16 = "q8_0", "q4_0", "f16"

# The tables of src/weights/weight_type.rs.
NARROW = 32
IN_16_BITS = ["time_embedding", "add_embedding", "class_embedding", "embeddings.", "text_projection"]
COMPONENTS_IN_16_BITS = ["encoder.", "decoder.", "quant_conv.", "post_quant_conv."]
IN_8_BITS = ["conv_shortcut", "proj_in", "proj_out", "time_emb_proj", "text_model."]
AT_FULL_SIZE = ("down_blocks.0.", "up_blocks.2.", "up_blocks.3.")
FULL_SIZE_CHANNELS = 320

# Scales for 4 bits that are tried beside the plain one: the largest value divided by these.
SEARCHED = [-7.0, -7.25, -7.5, -7.75, -8.25, -8.5, -8.75]
# A later one is taken if its error is below the best so far times this.
BETTER = 0.999


def rows_of(weight: torch.Tensor) -> torch.Tensor:
    """[O, taps * I]: the inputs as they lie in blocks."""
    return weight.permute(0, 2, 3, 1).flatten(1) if weight.dim() == 4 else weight


def back(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if like.dim() != 4:
        return rows
    o, i, h, w = like.shape
    return rows.view(o, h, w, i).permute(0, 3, 1, 2).contiguous()


def stored(d: torch.Tensor) -> torch.Tensor:
    """The scale as it is held: f16 of 1024 d."""
    return (d * FACTOR).to(torch.float16)


def codes_for(x: torch.Tensor, scale: torch.Tensor, least: float, most: float) -> torch.Tensor:
    d = scale.float() / FACTOR
    d = torch.where(d == 0, torch.ones_like(d), d)
    return torch.round(x / d[..., None]).clamp(least, most)


def quantise(weight: torch.Tensor, kind: str, search=True):
    """(scales f16 [O, blocks], codes [O, blocks, 32]) of a weight; short blocks are filled with zeros."""
    rows = rows_of(weight.float())
    o, k = rows.shape
    x = torch.nn.functional.pad(rows, (0, -k % BLOCK)).view(o, -1, BLOCK)
    at = x.abs().argmax(-1, keepdim=True)  # the first of several
    largest = x.gather(-1, at)[..., 0]
    if kind == Q8:
        scale = stored(largest.abs() / 127.0)
        return scale, codes_for(x, scale, -127.0, 127.0)
    best, codes, least = None, None, None
    for divisor in [-8.0] + (SEARCHED if search else []):
        scale = stored(largest / divisor)
        c = codes_for(x, scale, -8.0, 7.0)
        squares = (c * (scale.float() / FACTOR)[..., None] - x) ** 2
        # One after the other, as blocks.rs adds.
        error = torch.zeros_like(largest)
        for i in range(BLOCK):
            error = error + squares[..., i]
        if best is None:
            best, codes, least = scale, c, error
        else:
            better = error < least * BETTER
            best = torch.where(better, scale, best)
            codes = torch.where(better[..., None], c, codes)
            least = torch.where(better, error, least)
    return best, codes


def fake(weight: torch.Tensor, kind: str, search=True) -> torch.Tensor:
    """The values that a weight has when it is held as `kind`."""
    if kind == F16:
        return weight.to(torch.float16).float()
    rows = rows_of(weight)
    out = []
    # As many rows at once as stay in a cache.
    for part in rows.split(max(1, (1 << 18) // rows.shape[1])):
        scale, codes = quantise(part, kind, search)
        out.append((codes * (scale.float() / FACTOR)[..., None]).flatten(1)[:, : rows.shape[1]])
    return back(torch.cat(out), weight)


def may_be_quantised(name: str, shape) -> bool:
    if len(shape) < 2 or shape[0] < NARROW or shape[1] < NARROW:
        return False
    kept = any(part in name for part in IN_16_BITS) or any(name.startswith(b) for b in COMPONENTS_IN_16_BITS)
    return not kept


def kind_of(name: str, shape, kind: str, in_8_bits=None) -> str:
    """What one weight is held as in a model held as `kind`; names as in the files of the component. `in_8_bits` replaces
    the tables of what has 8 bits."""
    if kind == F16 or not may_be_quantised(name, shape):
        return F16
    at_full_size = in_8_bits is None and name.startswith(AT_FULL_SIZE) and min(shape[0], shape[1]) <= FULL_SIZE_CHANNELS
    return Q8 if at_full_size or any(part in name for part in (IN_8_BITS if in_8_bits is None else in_8_bits)) else kind


def file_name(component: str, name: str) -> str:
    """transformers' names are sometimes without the prefix of the files."""
    if component.startswith("text_encoder") and not name.startswith(("text_model.", "text_projection")):
        return "text_model." + name
    return name


def n_bytes(shape, kind: str) -> int:
    k, n = 1, shape[0]
    for side in shape[1:]:
        k *= side
    if kind == F16:
        return 2 * k * n
    scales = -(-k // BLOCK) * n * 2
    return scales + (k * n if kind == Q8 else -(-k // 2) * n)
