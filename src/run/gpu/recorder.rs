//! Buffers, pipelines, bind groups and submits on one device, every one of them counted in a [`Ledger`]; or, without a
//! device, the counting alone, so that a plan is made by the code that draws.
//!
//! What runs and where its operands lie is decided elsewhere.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_channel::oneshot;
use futures_util::future::select;
use web_time::Instant;

use super::arena::ALIGNMENT;
use super::buffer::{Buffer, Pool, Pooled, Range};
use super::compiler::{Compiled, Compiler};
use super::faults::{Fault, Faults, one_line};
use super::kernel::{Launch, PipelineKey, UNUSED_BYTES};
use super::ledger::{Counts, Ledger, Purpose};
use super::profile::Profiler;
use super::{Caps, Gpu, readback};
use crate::error::{Error, Result};

/// A compiled kernel; nothing without a device.
#[derive(Debug)]
pub(super) struct Pipeline(Option<Compiled>);

/// What a dispatch is bound to.
#[derive(Debug)]
pub(super) struct Group {
    raw: Option<wgpu::BindGroup>,
    n_bytes: u64,
}

/// One entry of a submit.
pub(super) enum Command<'a> {
    /// Bytes from one place to another; both offsets and the length are multiples of four.
    Copy { from: Range<'a>, to: &'a Buffer, to_offset: u64 },
    /// A kernel.
    Dispatch {
        launch: &'a Launch,
        pipeline: &'a Pipeline,
        group: &'a Group,
        params_offset: u32,
        shape: &'a str,
        flops: u64,
    },
}

/// The end of a submit, to be waited for.
pub(super) struct Ticket {
    done: oneshot::Receiver<()>,
    index: Option<wgpu::SubmissionIndex>,
}

/// See the module.
pub(super) struct Recorder {
    gpu: Option<Gpu>,
    compiler: Option<Compiler>,
    caps: Caps,
    ledger: Ledger,
    pipelines: RefCell<HashMap<PipelineKey, Rc<Pipeline>>>,
    pool: Pool,
    faults: Faults,
    next_id: Cell<u64>,
    record_secs: Cell<f64>,
    profiler: RefCell<Option<Profiler>>,
}

impl Recorder {
    /// On a device.
    pub fn new(gpu: Gpu) -> Self {
        let recorder = Self::empty(gpu.caps.clone());
        let faults = recorder.faults.clone();
        // Without a handler wgpu ends the program on the first error outside a scope, such as running out of memory.
        gpu.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| faults.record(error.into())));
        let faults = recorder.faults.clone();
        gpu.device.set_device_lost_callback(move |reason, message| {
            let reason = match one_line(&message) {
                message if message.is_empty() => format!("{reason:?}").to_lowercase(),
                message => message,
            };
            faults.record(Fault::Lost(reason));
        });
        let compiler = Some(Compiler::new(&gpu.device));
        Recorder { gpu: Some(gpu), compiler, ..recorder }
    }

    /// Without a device: everything is counted and nothing happens.
    pub fn planned(caps: Caps) -> Self {
        Self::empty(caps)
    }

    fn empty(caps: Caps) -> Self {
        Recorder {
            gpu: None,
            compiler: None,
            caps,
            ledger: Ledger::default(),
            pipelines: RefCell::default(),
            pool: Pool::default(),
            faults: Faults::default(),
            next_id: Cell::new(0),
            record_secs: Cell::new(0.0),
            profiler: RefCell::new(None),
        }
    }

    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    pub fn is_planned(&self) -> bool {
        self.gpu.is_none()
    }

    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// Seconds spent recording commands, on the host.
    pub fn record_secs(&self) -> f64 {
        self.record_secs.get()
    }

    pub fn reset_peak(&self) {
        self.ledger.reset_peak();
    }

    /// Times every dispatch from now on.
    pub fn start_profile(&self) -> Result<()> {
        let Some(gpu) = &self.gpu else { return Ok(()) };
        *self.profiler.borrow_mut() = Some(Profiler::new(gpu)?);
        Ok(())
    }

    /// The times since [`Recorder::start_profile`], which ends.
    pub async fn finish_profile(&self) -> Result<Option<super::profile::Profile>> {
        let profiler = self.profiler.borrow_mut().take();
        match (profiler, &self.gpu) {
            (Some(profiler), Some(gpu)) => Ok(Some(profiler.finish(gpu).await?)),
            _ => Ok(None),
        }
    }

    /// Gives up the device, as a reset of the driver would. For tests of what follows.
    pub fn destroy_device(&self) {
        if let Some(gpu) = &self.gpu {
            gpu.device.destroy();
        }
    }

    pub fn buffer(&self, label: &str, n_bytes: u64, usage: wgpu::BufferUsages, purpose: Purpose) -> Buffer {
        let n_bytes = n_bytes.next_multiple_of(4).max(UNUSED_BYTES);
        let raw = self.gpu.as_ref().map(|gpu| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: n_bytes,
                usage,
                mapped_at_creation: false,
            })
        });
        let id = self.next_id.replace(self.next_id.get() + 1);
        Buffer::new(raw, id, n_bytes, purpose, self.ledger.clone())
    }

    /// A buffer for a tensor or for parameters; reuses a pooled buffer of equal size.
    pub fn pooled(&self, n_bytes: u64) -> Pooled {
        let n_bytes = n_bytes.next_multiple_of(ALIGNMENT).max(ALIGNMENT);
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::UNIFORM
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        self.pool.take(n_bytes, || self.buffer("tensor", n_bytes, usage, Purpose::Other))
    }

    /// Frees the unused buffers.
    pub fn trim(&self) {
        self.pool.clear();
    }

    /// Bytes to a place whose offset is a multiple of four. The last word is filled up with zeros.
    pub fn write(&self, to: &Buffer, offset: u64, bytes: &[u8]) {
        self.ledger.update(|counts| counts.uploaded_bytes += bytes.len() as u64);
        let Some((gpu, raw)) = self.gpu.as_ref().zip(to.raw.as_ref()) else { return };
        let (whole, rest) = bytes.split_at(bytes.len() / 4 * 4);
        gpu.queue.write_buffer(raw, offset, whole);
        if !rest.is_empty() {
            let mut word = [0; 4];
            word[..rest.len()].copy_from_slice(rest);
            gpu.queue.write_buffer(raw, offset + whole.len() as u64, &word);
        }
    }

    /// Counts bytes that a plan does not have.
    pub fn count_upload(&self, n_bytes: u64) {
        self.ledger.update(|counts| counts.uploaded_bytes += n_bytes);
    }

    /// Counts what was written and dispatched since `before` as weights that are streamed.
    pub fn count_streamed(&self, before: &Counts) {
        self.ledger.update(|counts| {
            let dispatches = counts.dispatches - before.dispatches;
            counts.dispatches -= dispatches;
            counts.streamed_dispatches += dispatches;
            counts.streamed_bytes += counts.uploaded_bytes - before.uploaded_bytes;
        });
    }

    /// Has the pipelines of launches that will come compiled in the background, where that is possible.
    pub fn compile_ahead<'a>(&self, launches: impl IntoIterator<Item = &'a Launch>) {
        let Some(compiler) = &self.compiler else { return };
        let known = self.pipelines.borrow();
        compiler.ahead(launches.into_iter().filter(|launch| !known.contains_key(&launch.pipeline_key())));
    }

    pub fn pipeline(&self, launch: &Launch) -> Rc<Pipeline> {
        let key = launch.pipeline_key();
        if let Some(known) = self.pipelines.borrow().get(&key) {
            return Rc::clone(known);
        }
        let mut compiled = self.compiler.as_ref().map(|compiler| compiler.compiled(launch));
        if let Some(fault) = compiled.as_mut().and_then(|compiled| compiled.fault.take()) {
            self.faults.record(fault);
        }
        let pipeline = Rc::new(Pipeline(compiled));
        self.ledger.compiled(key.clone());
        self.pipelines.borrow_mut().insert(key, Rc::clone(&pipeline));
        pipeline
    }

    /// Binds the parameters and what is behind them, in the order that the kernel documents.
    pub fn group(&self, launch: &Launch, pipeline: &Pipeline, params: &Buffer, operands: &[Range<'_>]) -> Group {
        let largest = operands.iter().map(|range| range.n_bytes).max().unwrap_or(0);
        self.ledger.update(|counts| {
            counts.bind_groups += 1;
            counts.largest_binding_bytes = counts.largest_binding_bytes.max(largest);
        });
        let n_bytes = operands.iter().map(|range| range.n_bytes).sum();
        let Some((gpu, Compiled { layout, .. })) = self.gpu.as_ref().zip(pipeline.0.as_ref()) else {
            return Group { raw: None, n_bytes };
        };
        let uniform = Range { buffer: params, offset: 0, n_bytes: launch.params.len() as u64 };
        let entries: Vec<_> = (0..)
            .zip(std::iter::once(&uniform).chain(operands))
            .filter_map(|(binding, range)| {
                let buffer = range.buffer.raw.as_ref()?;
                let size = NonZeroU64::new(range.n_bytes);
                let binding_range = wgpu::BufferBinding { buffer, offset: range.offset, size };
                Some(wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(binding_range) })
            })
            .collect();
        let descriptor = wgpu::BindGroupDescriptor { label: Some(launch.kernel.name), layout, entries: &entries };
        Group { raw: Some(gpu.device.create_bind_group(&descriptor)), n_bytes }
    }

    /// One command buffer: neighbouring dispatches share a pass, unless they are timed one by one.
    pub fn submit(&self, commands: &[Command<'_>]) -> Ticket {
        self.ledger.update(|counts| {
            counts.submits += 1;
            for command in commands {
                if let Command::Dispatch { group, flops, .. } = command {
                    counts.dispatches += 1;
                    counts.flops += flops;
                    counts.moved_bytes += group.n_bytes;
                }
            }
        });
        let (ran, done) = oneshot::channel();
        // Without a device `ran` is dropped here, which ends the wait as well.
        let Some(gpu) = &self.gpu else { return Ticket { done, index: None } };
        let start = Instant::now();
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut profiler = self.profiler.borrow_mut();
        let mut rest = commands;
        while let Some(first) = rest.first() {
            match first {
                Command::Copy { from, to, to_offset } => {
                    if let Some((from_raw, to_raw)) = from.buffer.raw.as_ref().zip(to.raw.as_ref()) {
                        encoder.copy_buffer_to_buffer(from_raw, from.offset, to_raw, *to_offset, from.n_bytes);
                    }
                    rest = &rest[1..];
                }
                Command::Dispatch { launch, shape, flops, group, .. } => {
                    let mut timestamps = None;
                    if let Some(profiler) = profiler.as_mut() {
                        timestamps = profiler.begin(gpu, launch.kernel.name, shape, *flops, group.n_bytes);
                    }
                    let n_together = match timestamps {
                        Some(_) => 1,
                        None => rest.iter().take_while(|c| matches!(c, Command::Dispatch { .. })).count(),
                    };
                    let mut pass = encoder
                        .begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: timestamps });
                    for command in &rest[..n_together] {
                        record_dispatch(&mut pass, command);
                    }
                    rest = &rest[n_together..];
                }
            }
        }
        let commands = encoder.finish();
        // A software adapter may compute within the submit, which says nothing about recording.
        self.record_secs.set(self.record_secs.get() + start.elapsed().as_secs_f64());
        let index = gpu.queue.submit([commands]);
        // Nobody waits any more where sending fails.
        gpu.queue.on_submitted_work_done(move || ran.send(()).unwrap_or(()));
        Ticket { done, index: Some(index) }
    }

    /// Waits until a submit has run; the browser's event loop runs meanwhile.
    pub async fn wait(&self, ticket: Ticket) {
        if let Some(gpu) = &self.gpu {
            // Natively this runs the callback; in the browser it does nothing. What failed is told by `check`.
            if gpu.device.poll(wgpu::PollType::Wait { submission_index: ticket.index, timeout: None }).is_err() {
                return;
            }
        }
        // A lost device does not call back.
        select(ticket.done, pin!(self.faults.wait())).await;
    }

    /// Brings bytes back, a multiple of four; zeros without a device. `stage` is for the error, which is that of the device
    /// where it had one.
    pub async fn read(&self, range: Range<'_>, stage: &str) -> Result<Vec<u8>> {
        self.ledger.update(|counts| {
            counts.readbacks += 1;
            counts.readback_bytes += range.n_bytes;
        });
        // The copy that the host can see.
        self.ledger.made(Purpose::Other, range.n_bytes);
        let bytes = self.read_uncounted(range).await;
        self.ledger.destroyed(Purpose::Other, range.n_bytes);
        // What comes from a buffer that the device had no memory for can be read, and is nothing.
        self.check(stage)?;
        bytes
    }

    async fn read_uncounted(&self, range: Range<'_>) -> Result<Vec<u8>> {
        match self.gpu.as_ref().zip(range.buffer.raw.as_ref()) {
            Some((gpu, raw)) => readback::read_bytes(gpu, raw, range.offset, range.n_bytes).await,
            None => Ok(vec![0; range.n_bytes as usize]),
        }
    }

    /// Collects what the device refuses until [`Recorder::close`].
    pub fn open_scope(&self) -> Option<wgpu::ErrorScopeGuard> {
        self.gpu.as_ref().map(|gpu| gpu.device.push_error_scope(wgpu::ErrorFilter::Validation))
    }

    /// Ends a scope: what was refused in it or outside of any becomes an error that names `stage`.
    pub async fn close(&self, scope: Option<wgpu::ErrorScopeGuard>, stage: &str) -> Result<()> {
        let refused = match scope {
            Some(scope) => scope.pop().await,
            None => None,
        };
        self.check(stage)?;
        match refused {
            Some(error) => Err(self.failure(stage, Fault::Other(one_line(&error.to_string())))),
            None => Ok(()),
        }
    }

    /// What happened outside of scopes since the last look.
    pub fn check(&self, stage: &str) -> Result<()> {
        if let Some(gpu) = &self.gpu {
            // Natively callbacks run while somebody polls, that of a lost device too, which makes this fail as well.
            let _told_by_the_callback = gpu.device.poll(wgpu::PollType::Poll);
        }
        self.faults.take().map_or(Ok(()), |fault| Err(self.failure(stage, fault)))
    }

    fn failure(&self, stage: &str, fault: Fault) -> Error {
        let (stage, device) = (stage.to_string(), self.caps.name.clone());
        match fault {
            Fault::Memory(reason) => Error::OutOfMemory { stage, device, reason },
            Fault::Lost(reason) => Error::DeviceLost { stage, device, reason },
            Fault::Other(reason) => Error::Run { node: stage, device, reason },
        }
    }
}

fn record_dispatch(pass: &mut wgpu::ComputePass<'_>, command: &Command<'_>) {
    let Command::Dispatch { launch, pipeline, group, params_offset, .. } = command else { return };
    let Some((compiled, group)) = pipeline.0.as_ref().zip(group.raw.as_ref()) else { return };
    pass.set_pipeline(&compiled.pipeline);
    pass.set_bind_group(0, group, &[*params_offset]);
    let [x, y, z] = launch.workgroups;
    pass.dispatch_workgroups(x, y, z);
}
