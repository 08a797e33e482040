// wgpu does not know of a browser's subgroup operations (gfx-rs/wgpu, issue 10146), so that its requests for a device are completed
// here, in this worker alone. Whether kernels use them is decided after a trial (`Gpu::try_subgroups`).

/** Has every device of this thread ask for subgroup operations where its adapter has them. */
export function ask_for_subgroups() {
  const prototype = globalThis.GPUAdapter?.prototype;
  if (!prototype) return;
  const request = prototype.requestDevice;
  /** @this {GPUAdapter} @param {GPUDeviceDescriptor} [descriptor] */
  prototype.requestDevice = function request_with_subgroups(descriptor = {}) {
    const name = /** @type {GPUFeatureName} */ ("subgroups");
    if (!this.features.has(name)) return request.call(this, descriptor);
    return request.call(this, { ...descriptor, requiredFeatures: [...(descriptor.requiredFeatures ?? []), name] });
  };
}
