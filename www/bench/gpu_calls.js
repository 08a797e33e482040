// Counts what a thread asks of WebGPU, whichever library asks: the API's own prototypes are wrapped.

/**
 * @typedef {object} GpuCalls
 * @property {number} dispatches
 * @property {number} passes compute passes
 * @property {number} submits
 * @property {number} bind_groups made
 * @property {number} pipelines compiled
 * @property {number} buffers made
 * @property {number} allocated_bytes of buffers made
 * @property {number} live_bytes of buffers that were not destroyed
 * @property {number} peak_bytes the most that live_bytes was
 * @property {number} uploads
 * @property {number} uploaded_bytes
 * @property {number} readbacks maps for reading
 */

/**
 * Wraps the API of this thread. To be called once, before any device is made.
 * @returns {() => GpuCalls} the counts so far
 */
export function count_gpu_calls() {
  const counts = {
    dispatches: 0, passes: 0, submits: 0, bind_groups: 0, pipelines: 0, buffers: 0, allocated_bytes: 0,
    live_bytes: 0, peak_bytes: 0, uploads: 0, uploaded_bytes: 0, readbacks: 0,
  };
  /** @type {WeakSet<GPUBuffer>} */
  const gone = new WeakSet();
  /**
   * Has `before` see every call of a method. A type that this browser lacks has none.
   * @template {object} Self
   * @template {keyof Self & string} Name
   * @param {{prototype: Self} | undefined} type
   * @param {Name} name
   * @param {Self[Name] extends (...given: infer Given) => unknown ? (this: Self, ...given: Given) => void : never} before
   */
  const wrap = (type, name, before) => {
    const inner = type?.prototype[name];
    if (!type || typeof inner !== "function") return;
    /** @this {Self} @param {...unknown} given */
    const wrapped = function (...given) {
      Reflect.apply(before, this, given);
      return Reflect.apply(inner, this, given);
    };
    Object.assign(type.prototype, { [name]: wrapped });
  };
  const scope = /** @type {Partial<typeof globalThis>} */ (globalThis);
  wrap(scope.GPUComputePassEncoder, "dispatchWorkgroups", () => { counts.dispatches += 1; });
  wrap(scope.GPUComputePassEncoder, "dispatchWorkgroupsIndirect", () => { counts.dispatches += 1; });
  wrap(scope.GPUCommandEncoder, "beginComputePass", () => { counts.passes += 1; });
  wrap(scope.GPUQueue, "submit", () => { counts.submits += 1; });
  wrap(scope.GPUDevice, "createBindGroup", () => { counts.bind_groups += 1; });
  wrap(scope.GPUDevice, "createComputePipeline", () => { counts.pipelines += 1; });
  wrap(scope.GPUDevice, "createComputePipelineAsync", () => { counts.pipelines += 1; });
  wrap(scope.GPUDevice, "createBuffer", ({ size, mappedAtCreation }) => {
    counts.buffers += 1;
    counts.allocated_bytes += size;
    counts.live_bytes += size;
    counts.peak_bytes = Math.max(counts.peak_bytes, counts.live_bytes);
    if (mappedAtCreation) {
      counts.uploads += 1;
      counts.uploaded_bytes += size;
    }
  });
  wrap(scope.GPUBuffer, "destroy", function () {
    if (gone.has(this)) return;
    gone.add(this);
    counts.live_bytes -= this.size;
  });
  wrap(scope.GPUQueue, "writeBuffer", (_buffer, _offset, data, from = 0, length) => {
    const unit = "BYTES_PER_ELEMENT" in data ? Number(data.BYTES_PER_ELEMENT) : 1;
    counts.uploads += 1;
    counts.uploaded_bytes += length === undefined ? data.byteLength - from * unit : length * unit;
  });
  wrap(scope.GPUBuffer, "mapAsync", (mode) => { counts.readbacks += mode & 1; });
  return () => ({ ...counts });
}

/**
 * What happened between two readings; `live_bytes` and `peak_bytes` are those of the later one.
 * @param {GpuCalls} later
 * @param {GpuCalls} earlier
 * @returns {GpuCalls}
 */
export function calls_since(later, earlier) {
  const difference = { ...later };
  for (const name of /** @type {(keyof GpuCalls)[]} */ (Object.keys(later))) difference[name] -= earlier[name];
  return { ...difference, live_bytes: later.live_bytes, peak_bytes: later.peak_bytes };
}
