import { Darkroom } from "./darkroom.js";

const [status] = document.getElementsByTagName("p");
const darkroom = await Darkroom.open();
const model = await darkroom.load({}, ({ fraction }) => (status.textContent = `Loading: ${Math.round(fraction * 100)} %`));
const job = darkroom.generate(
  { prompt: "a red apple on a blue background", steps: 6, guidance_scale: 4, seed: 1 },
  { on_progress: ({ stage, fraction }) => (status.textContent = `${stage}: ${Math.round(fraction * 100)} %`) },
);
const { pictures, seconds } = await job.done;
document.images[0].src = URL.createObjectURL(new Blob([pictures[0].png], { type: "image/png" }));
status.textContent = `${model.name}, ${model.device}: ${seconds.toFixed(1)} s`;
