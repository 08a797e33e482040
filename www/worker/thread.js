// One of the processor's threads: a worker on the memory of the module that started it (program.js). It says null once it is
// there, or what went wrong. From then on that module may wait for it and hear nothing, so a failure goes out on a channel.

import { message_of } from "../errors.js";

addEventListener("message", async ({ data: { script, compiled, memory, failures } }) => {
  let module;
  try {
    module = await import(/* webpackIgnore: true */ /* @vite-ignore */ script);
    module.initSync({ module: compiled, memory });
  } catch (error) {
    postMessage(message_of(error));
    return;
  }
  postMessage(null);
  try {
    module.run_thread();
  } catch (error) {
    if (failures) new BroadcastChannel(failures).postMessage(message_of(error));
    throw error;
  }
});
