//! Recording a program once, and submitting it again and again.

use std::rc::Rc;

use web_time::Instant;

use super::super::kernels::{Binding, Kernel};
use super::super::ledger::Purpose;
use super::super::program::{Dispatch, Operand};
use super::super::recorder::{Buffer, Command, Group, Pipeline, Range};
use super::tensor::GpuTensor;
use super::{GpuProgram, GpuRunner, GpuWeights};
use crate::error::{Error, Result};

/// Pipelines and bind groups of a program, good for as long as the buffers are the same.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) buffers: Vec<u64>,
    pub(super) dispatches: Vec<(Rc<Pipeline>, Group)>,
}

/// Whether there is an operand for each binding.
pub(super) fn fits(kernel: &Kernel, operands: &[Operand]) -> bool {
    kernel.bindings.len() == operands.len() + 1 && kernel.bindings[0] == Binding::Uniform
}

/// Work of the first submits: about 150 ms at 20 GFLOP/s, which the slowest real GPUs exceed.
pub(super) const FIRST_SUBMIT_FLOPS: f64 = 3e9;

/// Work of a submit at most, however fast the device.
pub(super) const MAX_SUBMIT_FLOPS: f64 = 1e12;

/// How long a submit should take: not noticed as a stall, and far from what drivers stop.
pub(super) const SUBMIT_SECS: f64 = 0.1;

impl GpuRunner {
    /// The arena's buffers, each at least as large as asked for. All programs share them, one after another.
    pub(super) fn arena(&self, wanted: &[u64]) -> Vec<Rc<Buffer>> {
        let mut arena = self.arena.borrow_mut();
        for (i, &n_bytes) in wanted.iter().enumerate() {
            if arena.get(i).is_some_and(|buffer| buffer.n_bytes >= n_bytes) {
                continue;
            }
            // The smaller one is given back first; those behind it would only have to be moved.
            arena.truncate(i);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            arena.push(Rc::new(self.recorder.buffer("arena", n_bytes, usage, Purpose::Arena)));
        }
        arena[..wanted.len()].to_vec()
    }

    /// Where the operands of a dispatch are.
    pub(super) fn ranges<'a>(
        &'a self,
        program: &'a GpuProgram,
        dispatch: &Dispatch,
        arena: &'a [Rc<Buffer>],
        weights: &'a GpuWeights,
        inputs: &'a [(String, GpuTensor)],
    ) -> Result<Vec<Range<'a>>> {
        let Dispatch { launch, operands, name, .. } = dispatch;
        debug_assert!(fits(launch.kernel, operands), "{name}: operands do not fit {}", launch.kernel.name);
        let mut ranges = Vec::with_capacity(operands.len());
        for (i, operand) in operands.iter().enumerate() {
            ranges.push(match operand {
                Operand::Slot(slot) => {
                    let (place, n_bytes) = program.program.slots[*slot];
                    Range { buffer: &arena[place.buffer], offset: place.offset, n_bytes }
                }
                Operand::Input(wanted) => match inputs.iter().find(|(name, _)| name == wanted) {
                    Some((_, tensor)) => tensor.range(),
                    None => return self.fail(name, format!("the input {wanted} is not given")),
                },
                Operand::Weight(wanted) => match weights.buffers.get(wanted) {
                    Some(buffer) => buffer.whole(),
                    None => return self.fail(name, format!("the weight {wanted} is not loaded")),
                },
                Operand::Unused => self.unused(i),
                Operand::UnusedWeight => self.unused_weight(),
            });
        }
        Ok(ranges)
    }

    /// The bind groups of a program: those of the last run where nothing else is bound now.
    pub(super) fn record(
        &self,
        program: &GpuProgram,
        arena: &[Rc<Buffer>],
        weights: &GpuWeights,
        inputs: &[(String, GpuTensor)],
    ) -> Result<Rc<Recorded>> {
        let bound = inputs.iter().flat_map(|(_, tensor)| [tensor.buffer.id, tensor.offset]);
        let buffers: Vec<u64> = arena.iter().map(|buffer| buffer.id).chain([weights.id]).chain(bound).collect();
        if let Some(recorded) = &*program.recorded.borrow()
            && recorded.buffers == buffers
        {
            return Ok(Rc::clone(recorded));
        }
        let mut dispatches = Vec::with_capacity(program.program.dispatches.len());
        for dispatch in &program.program.dispatches {
            let pipeline = self.recorder.pipeline(&dispatch.launch);
            let ranges = self.ranges(program, dispatch, arena, weights, inputs)?;
            let group = self.recorder.group(&dispatch.launch, &pipeline, &program.params, &ranges);
            dispatches.push((pipeline, group));
        }
        let recorded = Rc::new(Recorded { buffers, dispatches });
        *program.recorded.borrow_mut() = Some(Rc::clone(&recorded));
        Ok(recorded)
    }

    /// The dispatches of a program, cut into submits. One is always under way while the next is recorded.
    pub(super) async fn replay(
        &self,
        program: &GpuProgram,
        recorded: &Recorded,
        mut commands: Vec<Command<'_>>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<()> {
        let dispatches = &program.program.dispatches;
        let (mut idx, mut done) = (0, 0);
        let mut under_way = None;
        let mut last_end = Instant::now();
        while idx < dispatches.len() {
            let limit = (self.flops_per_sec.get() * SUBMIT_SECS).clamp(FIRST_SUBMIT_FLOPS, MAX_SUBMIT_FLOPS) as u64;
            let mut flops = 0;
            while idx < dispatches.len() && flops < limit {
                let Dispatch { launch, shape, flops: own, .. } = &dispatches[idx];
                let (pipeline, group) = &recorded.dispatches[idx];
                let params_offset = program.offsets[idx];
                commands.push(Command::Dispatch { launch, pipeline, group, params_offset, shape, flops: *own });
                flops += own;
                idx += 1;
            }
            let ticket = self.recorder.submit(&commands);
            commands.clear();
            if let Some((ticket, flops)) = under_way.replace((ticket, flops)) {
                self.recorder.wait(ticket).await;
                self.learn_speed(flops, &mut last_end);
                done += flops;
                if !progress(done) {
                    return Err(Error::Cancelled);
                }
            }
        }
        if let Some((ticket, flops)) = under_way {
            self.recorder.wait(ticket).await;
            self.learn_speed(flops, &mut last_end);
            done += flops;
            if !progress(done) {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// Follows the device's speed, so that submits are neither long nor many.
    pub(super) fn learn_speed(&self, flops: u64, last_end: &mut Instant) {
        let secs = last_end.elapsed().as_secs_f64();
        *last_end = Instant::now();
        if flops as f64 >= FIRST_SUBMIT_FLOPS && !self.recorder.is_planned() {
            self.flops_per_sec.set(0.5 * self.flops_per_sec.get() + 0.5 * flops as f64 / secs.max(1e-6));
        }
    }
}
