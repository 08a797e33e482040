//! Recording a program once, and submitting it again and again.

use std::rc::Rc;

use web_time::Instant;

use super::super::buffer::{Buffer, Range};
use super::super::emit::{Dispatch, Operand};
use super::super::kernel::Element;
use super::super::ledger::Purpose;
use super::super::program::Program;
use super::super::program::groups::Group as Streaming;
use super::super::recorder::{Command, Group, Pipeline};
use super::load::Pace;
use super::tensor::{GpuTensor, Kind};
use super::{GpuProgram, GpuRunner, GpuWeights};
use crate::error::{Error, Result};
use crate::graph::InputKind;

/// Pipelines and bind groups of a program, good for as long as the buffers are the same.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) buffers: Vec<u64>,
    pub(super) dispatches: Vec<(Rc<Pipeline>, Group)>,
    /// The dispatches in groups, with the weights that are brought in before each.
    pub(super) streaming: Vec<Streaming>,
}

/// Work of the first submits: about 150 ms at 20 GFLOP/s, which the slowest real GPUs exceed.
const FIRST_SUBMIT_FLOPS: f64 = 3e9;

/// The speed that a device is taken to have before anything was measured on it, in floating-point operations a second.
pub const FIRST_FLOPS_PER_SEC: f64 = FIRST_SUBMIT_FLOPS / SUBMIT_SECS;

/// Work of a submit at most, however fast the device.
const MAX_SUBMIT_FLOPS: f64 = 1e12;

/// How long a submit should take: not noticed as a stall, and far from what drivers stop.
pub(super) const SUBMIT_SECS: f64 = 0.1;

/// Floating-point operations of a submit on a device of this speed, in operations a second.
fn submit_flops(flops_per_sec: f64) -> f64 {
    (flops_per_sec * SUBMIT_SECS).clamp(FIRST_SUBMIT_FLOPS, MAX_SUBMIT_FLOPS)
}

/// How long a submit takes on a device of this speed, in operations a second: a tenth of a second, but for the slowest, whose
/// submits are not made smaller, and the fastest, whose are not made larger.
#[must_use]
pub fn submit_secs(flops_per_sec: f64) -> f64 {
    submit_flops(flops_per_sec) / flops_per_sec
}

impl GpuRunner {
    /// Values to their slots, the dispatches, and the results to tensors of their own.
    pub(super) async fn run_program(
        &self,
        program: &GpuProgram,
        weights: &GpuWeights,
        inputs: &[(&str, &GpuTensor)],
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<GpuTensor>> {
        let Program { name, inputs: wanted, outputs, arena_bytes, slots, element, .. } = &program.program;
        let scope = self.recorder.open_scope();
        let arena = self.arena(arena_bytes);
        // Values are copied to their slots; the rest is bound where it is.
        let mut values = Vec::new();
        let mut bound = Vec::new();
        for input in wanted {
            // Inputs that no operation reads need not be given.
            let Some((_, tensor)) = inputs.iter().find(|(name, _)| *name == input.name) else { continue };
            if tensor.shape != input.shape {
                let reason =
                    format!("the input {} has shape {:?} instead of {:?}", input.name, tensor.shape, input.shape);
                return self.fail(name, reason);
            }
            let type_wanted = match input.kind {
                InputKind::Ids => Kind::Ids,
                InputKind::Values => Kind::Floats(Element::F32),
                InputKind::Computed => Kind::Floats(*element),
            };
            let tensor = match (type_wanted, tensor.kind) {
                (wanted, given) if wanted == given => GpuTensor::clone(tensor),
                (Kind::Floats(wanted), Kind::Floats(_)) => self.cast(tensor, wanted)?,
                _ => return self.fail(name, format!("the input {} is of another type", input.name)),
            };
            match input.slot {
                Some(slot) => values.push((slot, tensor)),
                None => bound.push((input.name.clone(), tensor)),
            }
        }
        let recorded = self.record(program, &arena, weights, &bound)?;
        let copies = values.iter().map(|(slot, tensor)| {
            let (place, _) = slots[*slot];
            let from = Range { n_bytes: tensor.n_bytes(), ..tensor.range() };
            Command::Copy { from, to: &arena[place.buffer], to_offset: place.offset }
        });
        let replayed = self.replay(program, weights, &recorded, copies.collect(), progress).await;
        let mut results = Vec::with_capacity(outputs.len());
        let mut copies = Vec::new();
        for output in outputs {
            let tensor = self.floats(&output.shape, output.element);
            let Operand::Slot(slot) = output.operand else { return self.fail(name, "a result is an input".into()) };
            let (place, _) = slots[slot];
            results.push((tensor, place));
        }
        for (tensor, place) in &results {
            let from = Range {
                buffer: &arena[place.buffer],
                offset: place.offset,
                n_bytes: tensor.n_bytes().next_multiple_of(4),
            };
            copies.push(Command::Copy { from, to: &tensor.buffer, to_offset: 0 });
        }
        if replayed.is_ok() {
            self.recorder.submit(&copies);
        }
        self.recorder.close(scope, name).await?;
        replayed?;
        drop(copies);
        Ok(results.into_iter().map(|(tensor, _)| tensor).collect())
    }

    /// The arena's buffers, each at least as large as asked for. All programs share them, one after another.
    fn arena(&self, wanted: &[u64]) -> Vec<Rc<Buffer>> {
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
    fn ranges<'a>(
        &'a self,
        program: &'a GpuProgram,
        dispatch: &'a Dispatch,
        arena: &'a [Rc<Buffer>],
        weights: (&'a GpuWeights, &'a Streaming),
        inputs: &'a [(String, GpuTensor)],
    ) -> Result<Vec<Range<'a>>> {
        let (weights, group) = weights;
        let Dispatch { launch, operands, name, .. } = dispatch;
        let range = |operand: &'a Operand| {
            Ok(match operand {
                Operand::Slot(slot) => {
                    let (place, n_bytes) = program.program.slots[*slot];
                    Range { buffer: &arena[place.buffer], offset: place.offset, n_bytes }
                }
                Operand::Input(wanted) => match inputs.iter().find(|(name, _)| name == wanted) {
                    Some((_, tensor)) => tensor.range(),
                    None => return self.fail(name, format!("the input {wanted} is not given")),
                },
                Operand::Weight(wanted) => match weights.place(wanted, group) {
                    Some(range) => range,
                    None => return self.fail(name, format!("the weight {wanted} is not loaded")),
                },
            })
        };
        let ranges = operands.iter().map(|operand| operand.as_ref().map(range).transpose());
        Ok(self.filled(launch, ranges.collect::<Result<_>>()?))
    }

    /// The bind groups of a program: those of the last run where nothing else is bound now.
    fn record(
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
        let streaming = self.groups(program, weights)?;
        let mut group_idx = 0;
        for (idx, dispatch) in program.program.dispatches.iter().enumerate() {
            group_idx += usize::from(idx == streaming[group_idx].end);
            let placed = (weights, &streaming[group_idx]);
            let pipeline = self.recorder.pipeline(&dispatch.launch);
            let ranges = self.ranges(program, dispatch, arena, placed, inputs)?;
            let group = self.recorder.group(&dispatch.launch, &pipeline, &program.params, &ranges);
            dispatches.push((pipeline, group));
        }
        let recorded = Rc::new(Recorded { buffers, dispatches, streaming });
        *program.recorded.borrow_mut() = Some(Rc::clone(&recorded));
        Ok(recorded)
    }

    /// The dispatches of a program, cut into submits. One is always under way while the next is recorded.
    async fn replay(
        &self,
        program: &GpuProgram,
        weights: &GpuWeights,
        recorded: &Recorded,
        mut commands: Vec<Command<'_>>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<()> {
        let dispatches = &program.program.dispatches;
        let (mut idx, mut done) = (0, 0);
        let mut under_way = None;
        let mut last_end = Instant::now();
        let (mut groups, mut group_end, mut pace) = (recorded.streaming.iter(), 0, Pace::default());
        let is_streaming = recorded.streaming.iter().any(|group| !group.places.is_empty());
        while idx < dispatches.len() {
            if idx == group_end
                && let Some(group) = groups.next()
            {
                // Behind the last group's dispatches, which the device computes while these are read.
                self.bring(weights, group, &mut pace).await?;
                group_end = group.end;
            }
            let limit = submit_flops(self.flops_per_sec.get()) as u64;
            let mut flops = 0;
            while idx < group_end && flops < limit {
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
                self.learn_speed(flops, &mut last_end, is_streaming);
                done += flops;
                if !progress(done) {
                    return Err(Error::Cancelled);
                }
            }
        }
        if let Some((ticket, flops)) = under_way {
            self.recorder.wait(ticket).await;
            self.learn_speed(flops, &mut last_end, is_streaming);
            done += flops;
            if !progress(done) {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// Follows the device's speed, so that submits are neither long nor many. Nothing is learnt where it waits for weights.
    fn learn_speed(&self, flops: u64, last_end: &mut Instant, is_streaming: bool) {
        let secs = last_end.elapsed().as_secs_f64();
        *last_end = Instant::now();
        if flops as f64 >= FIRST_SUBMIT_FLOPS && !self.recorder.is_planned() && !is_streaming {
            self.flops_per_sec.set(0.5 * self.flops_per_sec.get() + 0.5 * flops as f64 / secs.max(1e-6));
        }
    }
}
