"""What a user of `webuiapi`, a client of AUTOMATIC1111's web UI, does with `darkroom serve`, and what other front ends send.

tests/serve_webui.rs runs it with the embedded model; its one argument is the server's address.
"""

import base64
import io
import json
import pathlib
import sys
import threading
import time

import requests
import webuiapi
from PIL import Image

ADDRESS = sys.argv[1]
PROMPT = "a red apple on a blue background"
MODEL = "darkroom/tiny-emoji"
APPLE = pathlib.Path(__file__).parent.parent / "fixtures/emoji/apple.png"

api = webuiapi.WebUIApi(baseurl=f"{ADDRESS}/sdapi/v1", sampler="DPM++ 2M", steps=2)
n_checks = 0


def check(what, holds):
    global n_checks
    n_checks += 1
    print(("ok   " if holds else "FAIL ") + what, flush=True)
    if not holds:
        sys.exit(1)


def post(path, **body):
    answer = requests.post(f"{ADDRESS}/sdapi/v1/{path}", json=body, timeout=300)
    return answer.status_code, answer.json()


def refused(what, path, body, words, param):
    status, answer = post(path, **body)
    good = status in (400, 404) and all(word in answer["detail"] for word in words) and answer["param"] == param
    check(f"refused: {what} ({status} {answer.get('detail')})", good)


# What programs ask for when they start.
check("sd-models", [m["title"] for m in api.get_sd_models()] == [MODEL] == api.util_get_model_names())
check("current model", api.util_get_current_model() == MODEL)
samplers = api.util_get_sampler_names()
check(f"samplers {samplers}", {"Euler a", "Euler", "DPM++ 2M", "DPM++ 2M Karras", "DDIM", "UniPC"} <= set(samplers))
check("schedulers", {"automatic", "karras"} <= set(api.util_get_scheduler_names()))
check("upscalers", [u["name"] for u in api.get_upscalers()] == ["None"])
empty = [api.get_sd_vae, api.get_loras, api.get_hypernetworks, api.get_face_restorers, api.get_realesrgan_models,
         api.get_prompt_styles, api.get_latent_upscale_modes, api.get_artists, api.get_artist_categories]
check("empty lists", all(get() == [] for get in empty))
check("embeddings, scripts", api.get_embeddings()["loaded"] == {} and api.get_scripts() == {"txt2img": [], "img2img": []})
check("cmd-flags, memory", isinstance(api.get_cmd_flags(), dict) and set(api.get_memory()) == {"ram", "cuda"})
check("refresh-checkpoints", api.refresh_checkpoints() is None)
idle = api.get_progress()
check("progress while nothing is drawn", (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0, 0, None))
api.util_wait_for_ready()

# Text to picture, with all that this client sends.
size = {"width": 128, "height": 128}
drawn = api.txt2img(prompt=PROMPT, negative_prompt="", seed=1, cfg_scale=4, **size)
check("txt2img", drawn.image.size == (128, 128) and drawn.image.format == "PNG")
info = drawn.info
check(f"  its info: {info}", (info["seed"], info["all_seeds"], info["steps"], info["cfg_scale"], info["prompt"])
      == (1, [1], 2, 4.0, PROMPT) and (info["sampler_name"], info["sd_model_name"]) == ("DPM++ 2M", MODEL))
check("  nothing ignored", info["ignored"] == [])
check("  its parameters", drawn.parameters["steps"] == 2 and drawn.parameters["width"] == 128)
check("  its infotext", info["infotexts"][0].startswith(PROMPT + "\nSteps: 2, "))
batch = api.txt2img(prompt=PROMPT, seed=1, cfg_scale=4, batch_size=2, n_iter=2, **size)
check("batch_size 2, n_iter 2", len(batch.images) == 4 and batch.info["all_seeds"] == [1, 2, 3, 4])
check("  the first is the same", batch.images[0].tobytes() == drawn.image.tobytes())
seeds = {api.txt2img(prompt=PROMPT, seed=-1, steps=1, **size).info["seed"] for _ in range(2)}
check("seed -1 is another one each time", len(seeds) == 2)
karras = api.txt2img(prompt=PROMPT, seed=1, cfg_scale=4, steps=4, sampler_name="DPM++ 2M", scheduler="Karras", **size)
joined = api.txt2img(prompt=PROMPT, seed=1, cfg_scale=4, steps=4, sampler_name="DPM++ 2M Karras", **size)
plain = api.txt2img(prompt=PROMPT, seed=1, cfg_scale=4, steps=4, **size)
check("a schedule apart or in the name", karras.image.tobytes() == joined.image.tobytes() != plain.image.tobytes()
      and karras.info["sampler_name"] == "DPM++ 2M Karras")
euler = api.txt2img(prompt=PROMPT, seed=1, sampler_name="Euler a", **size)
check("Euler a", euler.info["sampler_name"] == "Euler a")
for name, schedule, used in [("Euler a", "Karras", "Euler a"), ("DDIM", "karras", "DDIM"),
                             ("DPM++ 2M Karras", "Exponential", "DPM++ 2M Karras")]:
    beside = api.txt2img(prompt=PROMPT, seed=1, sampler_name=name, scheduler=schedule, **size)
    check(f"{name} with {schedule}", beside.info["sampler_name"] == used and "scheduler" in beside.info["ignored"])
    if name == "Euler a":
        check("  draws with the sampler's own", beside.image.tobytes() == euler.image.tobytes())
for schedule in ("Automatic", "Uniform", "Karras"):
    beside = api.txt2img(prompt=PROMPT, seed=1, sampler_name="DPM++ 2M Karras", scheduler=schedule, **size)
    check(f"DPM++ 2M Karras with {schedule}", (beside.info["sampler_name"], beside.info["ignored"]) ==
          ("DPM++ 2M Karras", []))
status, answer = post("txt2img", prompt=PROMPT, seed=1, cfg_scale=4, steps=4, scheduler="Karras", **size)
check("a schedule with the model's sampler", status == 200 and json.loads(answer["info"])["sampler_name"] == "DPM++ 2M Karras")
status, answer = post("txt2img", prompt=PROMPT, steps=1, denoising_strength=0, **size)
check("text to picture has no denoising_strength", status == 200 and json.loads(answer["info"])["ignored"] == [])
skipped = api.txt2img(prompt=PROMPT, seed=1, cfg_scale=4, override_settings={
    "CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": MODEL, "sd_vae": "Automatic"}, **size)
check("CLIP_stop_at_last_layers", skipped.info["clip_skip"] == 2 and skipped.image.tobytes() != drawn.image.tobytes())
jpeg = api.txt2img(prompt=PROMPT, seed=1, override_settings={"samples_format": "jpg"}, **size)
check("samples_format", jpeg.image.format == "JPEG")

# A variation keeps the seed and counts its own.
row = api.txt2img(prompt=PROMPT, seed=3, subseed=9, subseed_strength=0.4, batch_size=2, sampler_name="Euler", steps=2, **size)
check("subseed", (row.info["all_seeds"], row.info["subseed"], row.info["all_subseeds"], row.info["subseed_strength"],
      row.info["ignored"]) == ([3, 3], 9, [9, 10], 0.4, []))
check("  in the infotext", "Seed: 3, " in row.info["infotexts"][1]
      and "Variation seed: 10, Variation seed strength: 0.4" in row.info["infotexts"][1])

# Settings that are not honoured are listed.
ignored = api.txt2img(prompt="a (red:1.2) apple", seed=1, restore_faces=True, tiling=True, styles=["photo"],
                      save_images=True, s_churn=1, override_settings={"eta_noise_seed_delta": 31337},
                      **size).info["ignored"]
check(f"ignored: {ignored}", set(ignored) == {
    "restore_faces", "tiling", "styles", "save_images", "s_churn",
    "override_settings.eta_noise_seed_delta", "(words:1.2) in prompts"})

# What SillyTavern sends for text to picture, and the least that programs send.
status, answer = post("txt2img", url="http://127.0.0.1:7860", auth="", prompt=PROMPT, negative_prompt="dog",
                      sampler_name="Euler a", scheduler="normal", steps=2, cfg_scale=7, width=128, height=128,
                      restore_faces=False, enable_hr=False, hr_upscaler="Latent", hr_scale=1, hr_additional_modules=[],
                      denoising_strength=0.7, hr_second_pass_steps=0, clip_skip=1, save_images=True, send_images=True,
                      do_not_save_grid=False, do_not_save_samples=False, override_settings_restore_afterwards=True,
                      override_settings={"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"})
check("SillyTavern's request", status == 200 and len(answer["images"]) == 1
      and set(json.loads(answer["info"])["ignored"]) == {"url", "save_images"})
status, answer = post("txt2img", prompt=PROMPT, steps="2", seed=1.0, batch_size=None, sampler_index="Euler",
                      alwayson_scripts={"ControlNet": {"args": []}, "ADetailer": {"args": [False]}})
check("numbers as texts, an old field", status == 200 and json.loads(answer["info"])["sampler_name"] == "Euler")
odd = api.txt2img(prompt=PROMPT, seed=1, steps=1, width=120, height=136)
check("any multiple of 8", odd.image.size == (120, 136))
status, answer = post("txt2img", prompt=PROMPT, steps=1, send_images=False)
check("send_images false", status == 200 and answer["images"] == [])

# Picture to picture.
apple = Image.open(APPLE).convert("RGB")
changed = api.img2img(images=[apple], prompt="a yellow star", seed=1, denoising_strength=0.5, steps=4, **size)
check("img2img", changed.image.size == (128, 128) and changed.info["denoising_strength"] == 0.5
      and "init_images" not in changed.parameters)
wide = apple.resize((128, 64))
for mode in range(3):
    shaped = api.img2img(images=[wide], prompt="a", seed=1, denoising_strength=0.5, steps=2, resize_mode=mode, **size)
    check(f"resize_mode {mode}", shaped.image.size == (128, 128) and shaped.info["ignored"] == [])
mask = Image.new("L", (128, 128), 0)
mask.paste(255, (0, 0, 64, 128))


def differing(picture, left):
    box = (0, 0, 64, 128) if left else (64, 0, 128, 128)
    return picture.convert("RGB").crop(box).tobytes() != apple.crop(box).tobytes()


def inpaint(mask, **settings):
    return api.img2img(images=[apple], mask_image=mask, prompt="a yellow star", seed=1, denoising_strength=1, steps=2,
                       inpainting_fill=1, inpaint_full_res=False, mask_blur=0, **size, **settings)


painted = inpaint(mask)
check("a white mask", differing(painted.image, True) and not differing(painted.image, False))
check("  nothing ignored", painted.info["ignored"] == [])
inverted = inpaint(mask, inpainting_mask_invert=1)
check("inpainting_mask_invert", differing(inverted.image, False) and not differing(inverted.image, True))
opaque = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
opaque.paste((9, 99, 199, 255), (0, 0, 64, 128))
shaped = inpaint(opaque)
check("a mask in the alpha channel", shaped.image.tobytes() == painted.image.tobytes())
# As that client asks where nothing is said: only what is masked, with a blur of 4.
large = apple.resize((256, 192))
spot = Image.new("L", large.size, 0)
spot.paste(255, (100, 80, 150, 130))
blurred = api.img2img(images=[large], mask_image=spot, prompt="a", steps=2, inpaint_full_res_padding=8, **size)
check(f"ignored with a mask: {blurred.info['ignored']}", blurred.info["ignored"] == ["inpainting_fill"])
check("  only the masked part is drawn", blurred.image.size == large.size
      and blurred.image.convert("RGB").crop((0, 0, 256, 60)).tobytes() == large.crop((0, 0, 256, 60)).tobytes()
      and blurred.image.convert("RGB").crop((100, 80, 150, 130)).tobytes() != large.crop((100, 80, 150, 130)).tobytes())
check("  in the infotext", "Mask blur: 4, Inpaint area: Only masked, Masked area padding: 8" in blurred.info["infotexts"][0])
# The same from a client that sends no more than it has to: the API's own defaults.


def in_base64(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


spotted = {"init_images": [in_base64(large)], "mask": in_base64(spot), "prompt": "a", "steps": 2, "width": 128, "height": 128}
status, answer = post("img2img", **spotted)
of_mask = json.loads(answer["info"])
check(f"defaults with a mask: {of_mask['infotexts'][0]}", status == 200 and of_mask["ignored"] == []
      and of_mask["denoising_strength"] == 0.75 and "Mask blur: 4, Inpaint area: Only masked" in of_mask["infotexts"][0])
status, answer = post("img2img", mask_blur=0, mask_blur_x=4, mask_blur_y=4, inpaint_full_res=False, inpainting_fill=0, **spotted)
of_mask = json.loads(answer["info"])
check(f"  and said: {of_mask['infotexts'][0]}", "Mask blur: 0," in of_mask["infotexts"][0]
      and "Inpaint area" not in of_mask["infotexts"][0] and of_mask["ignored"] == ["inpainting_fill"])
for fill in [2, 3]:
    refused(f"inpainting_fill {fill}", "img2img", dict(spotted, inpainting_fill=fill), ["use 1"], "inpainting_fill")
refused("mask_blur_x alone", "img2img", dict(spotted, mask_blur_x=2), ["use mask_blur"], "mask_blur_x")
encoded = base64.encodebytes(APPLE.read_bytes()).decode()
for form in [encoded, encoded.replace("\n", "").rstrip("="), "data:image/png;base64," + encoded.replace("\n", "")]:
    status, _ = post("img2img", init_images=[form], prompt="a", steps=2, width=128, height=128)
    check(f"init_images as {form[:22]!r}", status == 200)

# Progress, and stopping.
result = {}
long = threading.Thread(target=lambda: result.update(answer=api.txt2img(prompt=PROMPT, steps=150, n_iter=8, **size)))
long.start()
for _ in range(600):
    now = api.get_progress()
    if now["current_image"] and now["progress"] > 0:
        break
    time.sleep(0.05)
check(f"progress: {now['progress']}, {now['eta_relative']} s", 0 < now["progress"] < 1 and now["eta_relative"] > 0)
check(f"  {now['state']}", now["state"]["job_count"] == 8 and now["state"]["sampling_steps"] == 150
      and now["state"]["sampling_step"] > 0)
check("  its picture", Image.open(io.BytesIO(base64.b64decode(now["current_image"]))).format == "PNG")
skipping = requests.get(f"{ADDRESS}/sdapi/v1/progress?skip_current_image=true", timeout=60).json()
check("  without its picture", skipping["current_image"] is None and skipping["progress"] > 0)
check("interrupt", api.interrupt() == {})
long.join(60)
check("  ends the request", result["answer"].info["interrupted"] and len(result["answer"].images) < 8)
api.util_wait_for_ready(0.1)

# Options.
check("options", api.set_options({"CLIP_stop_at_last_layers": 2}) is None)
check("  are kept", api.get_options()["CLIP_stop_at_last_layers"] == 2)
kept = api.txt2img(prompt=PROMPT, seed=1, cfg_scale=4, **size)
check("  and used", kept.image.tobytes() == skipped.image.tobytes())
api.set_options({"CLIP_stop_at_last_layers": 1})
check("  others are told", api.set_options({"img2img_color_correction": True}) == {"ignored": ["img2img_color_correction"]})
api.util_set_model("tiny", find_closest=True)
refused("a checkpoint that is not here", "options", {"sd_model_checkpoint": "v1-5.safetensors"}, [MODEL],
        "sd_model_checkpoint")

# What a picture carries.
told = api.png_info(drawn.image)
check(f"png-info: {told.parameters}", told.info == info["infotexts"][0] and told.parameters["Steps"] == "2"
      and (told.parameters["Prompt"], told.parameters["Size-1"]) == (PROMPT, "128"))
status, answer = post("txt2img", prompt=PROMPT, steps=1, seed=1, override_settings={"samples_format": "jpg"})
status, told = post("png-info", image=answer["images"][0])
check("png-info of a JPEG", status == 200 and told["info"].startswith(PROMPT) and told["parameters"]["Seed"] == "1")
check("png-info of a plain picture", api.png_info(apple).info == "")

# What would make another picture altogether.
base = {"prompt": PROMPT, "steps": 2}
for body, param, words in [
    ({"enable_hr": True}, "enable_hr", ["img2img"]), ({"script_name": "X/Y/Z plot"}, "script_name", ["X/Y/Z"]),
    ({"alwayson_scripts": {"ControlNet": {"args": [{"enabled": True, "model": "x"}]}}}, "alwayson_scripts", ["ControlNet"]),
    ({"refiner_checkpoint": "x"}, "refiner_checkpoint", ["x"]), ({"prompt": "a <lora:x:0.8>"}, "prompt", ["lora"]),
    ({"sampler_name": "Magic"}, "sampler_name", ["Magic"]), ({"scheduler": "Magic"}, "scheduler", ["Karras"]),
    ({"steps": "many"}, "steps", ["whole number"]), ({"steps": 151}, "steps", ["1 to 150"]),
    ({"cfg_scale": 30}, "cfg_scale", ["20"]), ({"width": 100}, "width", ["96 or 104"]),
    ({"n_iter": 9}, "batch_size", ["1 to 8"]), ({"seed": -2}, "seed", ["-1"]),
    ({"override_settings": {"sd_model_checkpoint": "v1-5"}}, "sd_model_checkpoint", [MODEL]),
]:
    refused(str(body), "txt2img", {**base, **body}, words, param)
image = base64.b64encode(APPLE.read_bytes()).decode()
for body, param, words in [
    ({}, "init_images", ["missing"]), ({"init_images": [image, image]}, "init_images", ["2 pictures"]),
    ({"init_images": ["?"]}, "init_images", ["base64"]), ({"init_images": [image], "resize_mode": 3}, "resize_mode", ["2"]),
    ({"init_images": ["http://127.0.0.1/a.png"]}, "init_images", ["fetched"]),
    ({"init_images": [image], "denoising_strength": 2}, "denoising_strength", ["1"]),
    ({"init_images": [image], "denoising_strength": 0}, "denoising_strength", ["no step would remain", "0.5"]),
]:
    refused(str(body)[:60], "img2img", {**base, **body}, words, param)
print(f"{n_checks} checks with webuiapi")
