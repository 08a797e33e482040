// A page in TypeScript that uses all of Darkroom's package. It is compiled, and not run: `./build.sh npm`, `./build.sh check`.
//
// Lines under `@ts-expect-error` have to be faults.

import { Darkroom, DarkroomError } from "darkroom";
import type { DrawRequest, ErrorCode, GenerateOptions, LoadOptions, LoadedModel, ModelReport, OpenOptions, Picture, Plan, Progress } from "darkroom";
import init, { Models, Studio, type Failure } from "darkroom/wasm";
import type {} from "darkroom/worker";

/** Every code, each once: a code that is added or dropped is a fault here. */
const advice: Record<ErrorCode, string> = {
  request: "change a setting",
  model: "load another model",
  device: "choose the other runner",
  memory: "draw a smaller picture",
  lost: "load again",
  picture: "give another picture",
  file: "give another file",
  network: "try again",
  storage: "free space",
  cancelled: "",
  worker: "open again",
};

export async function draw(canvas: HTMLCanvasElement, bitmap: ImageBitmap, bytes: ArrayBuffer, signal: AbortSignal): Promise<Blob[]> {
  const where: OpenOptions = { base_url: "/darkroom/", wasm_url: new URL("https://cdn.example/darkroom_bg.wasm"), signal };
  const own: OpenOptions = { worker: () => new Worker("worker.js", { type: "module" }), on_restart: (restarted) => restarted.then(() => console.log("back")) };
  const darkroom = await Darkroom.open({ ...where, ...own });
  try {
    const report: ModelReport = await darkroom.download("1.5", ({ fraction, bytes_per_sec }) => console.log(fraction + bytes_per_sec));
    const options: LoadOptions = { kept: report.model, runner: "auto", dtype: "f16", weights: "q8_0", budget_bytes: 3e9, signal };
    const model: LoadedModel = await darkroom.load(options, (progress: Progress) => console.log(progress.stage, progress.fraction));
    const plan: Plan = await darkroom.plan({ width: model.width, height: model.height });
    if (!plan.fits) console.log(plan.advice?.toUpperCase());
    const request: DrawRequest = { prompt: "a red fox", steps: 20, loras: [{ name: "ink", strength: 0.8 }] };
    const work = await darkroom.work(request);
    console.log(work.flops);
    const given: GenerateOptions = {
      picture: canvas,
      mask: bitmap,
      on_preview: ({ width, height, data }) => canvas.getContext("2d")?.putImageData(new ImageData(data, width, height), 0, 0),
      on_picture: ({ seed }) => console.log(seed),
    };
    const { pictures, cancelled } = await darkroom.generate({ ...request, strength: 0.5 }, given).done;
    await darkroom.generate(request, { picture: bytes }).cancel();
    console.log(cancelled, await darkroom.read_parameters(bytes));
    const first: Picture | undefined = pictures[0];
    return first ? [new Blob([first.png], { type: "image/png" })] : [];
  } catch (error) {
    if (error instanceof DarkroomError) console.log(advice[error.code], error.needs, error.field);
    throw error;
  } finally {
    darkroom.close();
  }
}

export async function refused(darkroom: Darkroom): Promise<void> {
  // @ts-expect-error a prompt is wanted
  darkroom.generate({ steps: 3 });
  // @ts-expect-error the name is another
  darkroom.generate({ prompt: "x" }, { onProgress: () => {} });
  // @ts-expect-error there is no such runner
  await darkroom.load({ runner: "abacus" });
  // @ts-expect-error a number is no picture
  darkroom.generate({ prompt: "x" }, { picture: 3 });
  // @ts-expect-error there is no such code
  const code: ErrorCode = "weather";
  console.log(code);
}

export async function below(): Promise<string> {
  await init({ module_or_path: new URL("https://cdn.example/darkroom_bg.wasm") });
  const models = await Models.open({});
  try {
    const studio = await Studio.load_stored(models, "main", { runner: "cpu" }, (fraction) => fraction < 0.5);
    return studio.info().name;
  } catch (error) {
    return (error as Failure).code;
  }
}
