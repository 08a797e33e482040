//! One launch outside any program, and the filler of bindings that a launch does not use.

use super::super::arena::ALIGNMENT;
use super::super::buffer::Range;
use super::super::kernel::{Bind, Binding, Launch, UNUSED_BYTES};
use super::super::recorder::Command;
use super::GpuRunner;

impl GpuRunner {
    /// The ranges that a launch is bound to, with a filler in each binding that it does not use: WebGPU wants all bound.
    pub(super) fn filled<'a>(&'a self, launch: &Launch, operands: Vec<Option<Range<'a>>>) -> Vec<Range<'a>> {
        let bindings = &launch.kernel.bindings[1..];
        let fill = |(i, (operand, (_, binding))): (usize, (Option<Range<'a>>, &(&str, Binding)))| match binding {
            _ if operand.is_some() => operand,
            Binding::Read => Some(self.unused_weight()),
            Binding::ReadWrite | Binding::Uniform => Some(self.unused(i)),
        };
        operands.into_iter().zip(bindings).enumerate().filter_map(fill).collect()
    }

    /// Typed bindings as ranges in the kernel's order.
    pub(super) fn bound<'a, B: Bind<Operand = Range<'a>>>(&'a self, launch: &Launch, bindings: B) -> Vec<Range<'a>> {
        debug_assert_eq!(launch.kernel.bindings, B::BINDINGS, "{}: bound as another kernel", launch.kernel.name);
        self.filled(launch, bindings.list())
    }

    /// Submits one launch outside any program.
    pub(super) fn run_once<'a, B: Bind<Operand = Range<'a>>>(&'a self, launch: &Launch, bindings: B) {
        let operands = &self.bound(launch, bindings);
        let params = self.recorder.pooled(launch.params.len() as u64);
        self.recorder.write(&params, 0, &launch.params);
        let pipeline = self.recorder.pipeline(launch);
        let group = self.recorder.group(launch, &pipeline, &params, operands);
        let command =
            Command::Dispatch { launch, pipeline: &pipeline, group: &group, params_offset: 0, shape: "", flops: 0 };
        self.recorder.submit(&[command]);
    }

    fn unused(&self, i: usize) -> Range<'_> {
        Range { buffer: &self.unused, offset: i as u64 * ALIGNMENT, n_bytes: UNUSED_BYTES }
    }

    fn unused_weight(&self) -> Range<'_> {
        Range { buffer: &self.unused_weight, offset: 0, n_bytes: UNUSED_BYTES }
    }
}
