"""What a user of the official OpenAI Python client does with `darkroom serve`; its one argument is the server's address.

tests/serve_openai.rs runs it with the embedded model. Every check prints a line; the first that fails ends it.
"""

import base64
import io
import pathlib
import sys

import openai
from PIL import Image

PROMPT = "a red apple on a blue background"
FAST = {"steps": 2, "seed": 1}
APPLE = pathlib.Path(__file__).parent.parent / "fixtures/emoji/apple.png"
MODEL = "darkroom/tiny-emoji"

# Strict: an answer that lacks a field the client's types ask for is an error.
client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", _strict_response_validation=True)
n_checks = 0


def check(what, holds):
    global n_checks
    n_checks += 1
    print(("ok   " if holds else "FAIL ") + what, flush=True)
    if not holds:
        sys.exit(1)


def picture(b64_json):
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def generate(**settings):
    return client.images.generate(prompt=PROMPT, extra_body=FAST, **settings)


def refused(what, call, param, words, error=openai.BadRequestError):
    try:
        call()
    except error as e:
        good = e.param == param and all(word in e.message for word in words)
        check(f"refused: {what} ({e.param}: {e.body['message']})", good)
        return
    check(f"refused: {what}", False)


# Models.
listed = client.models.list()
check("models.list", [model.id for model in listed] == [MODEL])
model = client.models.retrieve(MODEL)
check("models.retrieve", (model.id, model.object, model.owned_by) == (MODEL, "model", "darkroom") and model.created > 0)
refused("models.retrieve of another", lambda: client.models.retrieve("dall-e-3"), "model", [MODEL], openai.NotFoundError)

# Text to picture: every value that changes nothing.
plain = generate()
check("images.generate", picture(plain.data[0].b64_json).size == (128, 128))
check("  its answer", (plain.output_format, plain.size, plain.background) == ("png", "128x128", "opaque"))
check("  its usage", plain.usage.input_tokens == 7 and plain.usage.total_tokens == 7)
neutral = generate(model=MODEL, n=1, size="auto", quality="auto", style="vivid", background="auto", moderation="auto",
                   output_format="png", output_compression=100, response_format="b64_json", stream=False,
                   partial_images=0, user="me", safety_identifier="me")
check("neutral values", neutral.data[0].b64_json == plain.data[0].b64_json)
neutral = generate(model=None, n=None, size="128x128", quality="standard", style="natural", background="opaque",
                   moderation="low", output_format=None, output_compression=None, response_format=None, stream=None)
check("more neutral values", neutral.data[0].b64_json == plain.data[0].b64_json)
two = generate(n=2).data
check("n=2", len(two) == 2 and two[0].b64_json == plain.data[0].b64_json != two[1].b64_json)
url = generate(response_format="url").data[0].url
check("response_format url", url.startswith(sys.argv[1]))

# Formats.
sizes = {}
for settings, kind in [({"output_format": "jpeg"}, "JPEG"), ({"output_format": "jpeg", "output_compression": 10}, "JPEG"),
                       ({"output_format": "webp"}, "WEBP"), ({"output_format": "webp", "output_compression": 0}, "WEBP")]:
    answer = generate(**settings)
    file = base64.b64decode(answer.data[0].b64_json)
    sizes[str(settings)] = len(file)
    got = Image.open(io.BytesIO(file))
    comment = got.getexif().get_ifd(0x8769).get(0x9286, b"")
    check(f"{settings}: {len(file)} bytes", got.format == kind and got.size == (128, 128)
          and answer.output_format == kind.lower() and PROMPT in comment[8:].decode("utf-16-be"))
large_jpeg, small_jpeg, large_webp, small_webp = sizes.values()
check("output_compression", small_jpeg < large_jpeg and small_webp < large_webp)

# Streams.
for n_partial, kind in [(0, "PNG"), (2, "PNG"), (1, "JPEG")]:
    stream = client.images.generate(prompt=PROMPT, stream=True, partial_images=n_partial, output_format=kind.lower(),
                                    extra_body={"steps": 4, "seed": 1})
    events = list(stream)
    partial = [event for event in events if event.type == "image_generation.partial_image"]
    check(f"stream with partial_images={n_partial}: {[event.type for event in events]}",
          len(partial) == n_partial and events[-1].type == "image_generation.completed"
          and len(events) == n_partial + 1)
    check("  their pictures", all(picture(event.b64_json).size == (128, 128) and picture(event.b64_json).format == kind
                                  for event in events))
    check("  their fields", [event.partial_image_index for event in partial] == list(range(n_partial))
          and events[-1].usage.input_tokens == 7 and events[-1].size == "128x128")
check("a stream of two", [event.type for event in client.images.generate(
    prompt=PROMPT, stream=True, n=2, extra_body=FAST)] == ["image_generation.completed"] * 2)

# Edits.
apple = Image.open(APPLE).convert("RGB")
mask = apple.convert("RGBA")
mask.paste((0, 0, 0, 0), (0, 0, 64, 128))
file = io.BytesIO()
mask.save(file, "PNG")
mask_file = ("mask.png", file.getvalue(), "image/png")
edit = {"prompt": "a yellow star on a green background", "extra_body": FAST}
edited = client.images.edit(image=APPLE.open("rb"), mask=mask_file, **edit)
result = picture(edited.data[0].b64_json).convert("RGB")
changed = [result.crop(box).tobytes() != apple.crop(box).tobytes() for box in [(0, 0, 64, 128), (64, 0, 128, 128)]]
check("images.edit repaints where the mask is transparent", changed == [True, False])
listed = client.images.edit(image=[APPLE], mask=mask_file, model=MODEL, n=1, size="128x128", quality="auto",
                            background="auto", input_fidelity="low", output_format="png", response_format="b64_json",
                            user="me", stream=False, **edit)
check("a list of one picture", listed.data[0].b64_json == edited.data[0].b64_json)
whole = client.images.edit(image=("a.png", APPLE.read_bytes()), size="auto", output_format="webp",
                           prompt=PROMPT, extra_body={**FAST, "strength": 0.5, "guidance_scale": 2.5})
check("images.edit of the whole picture", picture(whole.data[0].b64_json).format == "WEBP")
events = list(client.images.edit(image=APPLE, stream=True, partial_images=1, prompt=PROMPT,
                                 extra_body={"steps": 4, "strength": 1, "seed": 1}))
check(f"images.edit as a stream: {[event.type for event in events]}",
      [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"])

# Lists and objects, which this client spreads over the fields of a form.
for settings in [{"sigmas": [14.5, 2.0, 0]}, {"timesteps": [999, 500]}, {"loras": []}]:
    spread = client.images.edit(image=APPLE, prompt=PROMPT, extra_body={"seed": 1, "sampler": "euler", "strength": 1, **settings})
    check(f"images.edit with {settings}", picture(spread.data[0].b64_json).size == (128, 128))
refused("a form's LoRA", lambda: client.images.edit(image=APPLE, prompt="x", extra_body={"loras": [
    {"name": "ink", "strength": 0.5}, {"name": "oil"}]}), "loras", ['"ink"', "--lora-dir"])
refused("a form's pair", lambda: client.images.edit(image=APPLE, prompt="x", extra_body={"crop": [1, 2, 3]}), "crop",
        ["two whole numbers"])

# What cannot be honoured.
for settings, words in [
    ({"quality": "high"}, ["auto"]), ({"quality": "hd"}, ["steps"]), ({"style": "baroque"}, ["vivid"]),
    ({"background": "transparent"}, ["opaque"]), ({"moderation": "strict"}, ["auto"]),
    ({"output_format": "gif"}, ["webp"]), ({"output_compression": 50}, ["png", "jpeg"]),
    ({"output_compression": 101, "output_format": "jpeg"}, ["100"]), ({"response_format": "bytes"}, ["url"]),
    ({"partial_images": 4, "stream": True}, ["3"]), ({"partial_images": 1}, ["stream"]), ({"size": "big"}, ["512x512"]),
    ({"size": "100x128"}, ["96 or 128"]), ({"n": 0}, ["1 to 8"]), ({"n": 9}, ["1 to 8"]), ({"n": "two"}, ["whole number"]),
    ({"svg": {"model": "x"}}, ["svg"]), ({"frame_count": 3}, ["frame_count"]), ({"complexity": "low"}, ["complexity"]),
]:
    refused(str(settings), lambda: generate(**settings), list(settings)[0], words)
refused("a setting of nobody", lambda: client.images.generate(prompt="x", extra_body={"colour": 1}), "colour", ["colour"])
refused("another model", lambda: generate(model="gpt-image-1"), "model", [MODEL], openai.NotFoundError)
refused("two pictures", lambda: client.images.edit(image=[APPLE, APPLE], prompt="x"), "image", ["2 pictures"])
refused("no picture", lambda: client.images.edit(image=b"no picture", prompt="x"), "image", ["PNG"])
refused("a markup", lambda: client.images.edit(image=APPLE, markup=mask_file, prompt="x"), "markup", ["file"])
refused("a form's number", lambda: client.images.edit(image=APPLE, prompt="x", n="two"), "n", ["whole number"])
refused("a form's unknown setting", lambda: client.images.edit(image=APPLE, prompt="x", extra_body={"colour": "1"}),
        "colour", ["colour"])
refused("input_fidelity", lambda: client.images.edit(image=APPLE, prompt="x", input_fidelity="high"),
        "input_fidelity", ["strength"])
refused("a transparent edit", lambda: client.images.edit(image=APPLE, prompt="x", background="transparent"),
        "background", ["opaque"])
print(f"{n_checks} checks with openai {openai.__version__}")
