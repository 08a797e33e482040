//! The WebGPU runner: programs recorded into command buffers, on any wgpu adapter, natively and in the browser; or on none
//! ([`GpuRunner::planned`]), to find out what a device would be asked for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use web_time::Instant;

use super::bands::BandSizes;
use super::kernels::{
    Binding, Element, Kernel, Launch, UNUSED_BYTES, blend, cast_from_f32, cast_to_f32, copy, count_non_finite, gemm,
    lincomb, repack, rgba, splitk_reduce,
};
use super::ledger::{Counts, Purpose};
use super::lower::{Form, WeightBuffer, lower};
use super::profile::Profile;
use super::program::{Dispatch, Operand, Program, Settings, four};
use super::recorder::{ALIGNMENT, Buffer, Command, Group, Pipeline, Pooled, Range, Recorder};
use super::tiles::{Measured, Tiles};
use super::{Caps, Gpu};
use crate::error::{Error, Result};
use crate::graph::{Graph, InputKind, WeightSpec};
use crate::run::{Colours, Runner};
use crate::weights::convert::f32_from_le_bytes;
use crate::weights::{Dtype, Weights};

/// Work of the first submits: about 150 ms at 20 GFLOP/s, which the slowest real GPUs exceed.
const FIRST_SUBMIT_FLOPS: f64 = 3e9;
/// Work of a submit at most, however fast the device.
const MAX_SUBMIT_FLOPS: f64 = 1e12;
/// How long a submit should take: not noticed as a stall, and far from what drivers stop.
const SUBMIT_SECS: f64 = 0.1;
/// Bindings of one dispatch that may be without use.
const MAX_UNUSED: u64 = 8;
/// Bytes of a checkpoint that are on the host at once while weights are loaded. Their conversion needs as much again.
const PIECE_BYTES: u64 = 8 << 20;

/// A tensor in a buffer, which it may share with others.
#[derive(Clone, Debug)]
pub struct GpuTensor {
    buffer: Rc<Pooled>,
    offset: u64,
    shape: Vec<usize>,
    kind: Kind,
}

/// The type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Floats(Element),
    Ids,
}

impl Kind {
    fn bytes(self) -> u64 {
        match self {
            Kind::Floats(element) => element.bytes(),
            Kind::Ids => 4,
        }
    }
}

impl GpuTensor {
    fn n_values(&self) -> usize {
        self.shape.iter().product()
    }

    fn n_bytes(&self) -> u64 {
        self.n_values() as u64 * self.kind.bytes()
    }

    fn range(&self) -> Range<'_> {
        // A binding is no shorter than this, and behind a view there is either its neighbour or the buffer's own slack.
        let n_bytes = self.n_bytes().next_multiple_of(4).max(UNUSED_BYTES);
        Range { buffer: &self.buffer, offset: self.offset, n_bytes }
    }

    fn element(&self) -> Element {
        match self.kind {
            Kind::Floats(element) => element,
            Kind::Ids => Element::F32,
        }
    }
}

/// The weights of one component, packed for the kernels.
#[derive(Debug)]
pub struct GpuWeights {
    id: u64,
    buffers: HashMap<String, Buffer>,
}

/// A program with its parameters on the device.
#[derive(Debug)]
pub struct GpuProgram {
    program: Program,
    params: Buffer,
    offsets: Vec<u32>,
    recorded: RefCell<Option<Rc<Recorded>>>,
}

impl GpuProgram {
    /// The dispatches.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }
}

/// Pipelines and bind groups of a program, good for as long as the buffers are the same.
#[derive(Debug)]
struct Recorded {
    buffers: Vec<u64>,
    dispatches: Vec<(Rc<Pipeline>, Group)>,
}

/// See the module.
pub struct GpuRunner {
    recorder: Recorder,
    element: Element,
    bands: BandSizes,
    tiles: RefCell<Tiles>,
    measures_tiles: Cell<bool>,
    measured: RefCell<Vec<Measured>>,
    arena: RefCell<Vec<Rc<Buffer>>>,
    unused: Buffer,
    unused_weight: Buffer,
    next_weights: Cell<u64>,
    /// What the device was seen to do.
    flops_per_sec: Cell<f64>,
}

impl GpuRunner {
    /// Takes an opened device. Activations are 16 bits wide where asked for and possible.
    ///
    /// # Errors
    /// [`Error::Device`] when 16 bits are asked for and the adapter lacks `shader-f16`.
    pub fn new(gpu: Gpu, element: Element) -> Result<Self> {
        Self::check_element(&gpu.caps, element)?;
        Ok(Self::with_recorder(Recorder::new(gpu), element))
    }

    /// Has no device: everything is counted, nothing is computed, and what comes back is zero.
    ///
    /// # Errors
    /// As [`GpuRunner::new`].
    pub fn planned(caps: Caps, element: Element) -> Result<Self> {
        Self::check_element(&caps, element)?;
        Ok(Self::with_recorder(Recorder::planned(caps), element))
    }

    fn check_element(caps: &Caps, element: Element) -> Result<()> {
        if element == Element::F16 && !caps.shader_f16 {
            let reason = "lacks shader-f16: use f32".to_string();
            return Err(Error::Device { device: caps.name.clone(), reason });
        }
        Ok(())
    }

    fn with_recorder(recorder: Recorder, element: Element) -> Self {
        let storage = wgpu::BufferUsages::STORAGE;
        let unused = recorder.buffer("unused", MAX_UNUSED * ALIGNMENT, storage, Purpose::Other);
        let unused_weight = recorder.buffer("unused weight", ALIGNMENT, storage, Purpose::Other);
        GpuRunner {
            recorder,
            element,
            bands: BandSizes::DEFAULT,
            tiles: RefCell::default(),
            measures_tiles: Cell::new(false),
            measured: RefCell::default(),
            arena: RefCell::default(),
            unused,
            unused_weight,
            next_weights: Cell::new(0),
            flops_per_sec: Cell::new(FIRST_SUBMIT_FLOPS / SUBMIT_SECS),
        }
    }

    /// How large pictures are cut, where the default is not what is wanted.
    #[must_use]
    pub fn with_bands(self, bands: BandSizes) -> Self {
        GpuRunner { bands, ..self }
    }

    /// Which tile serves which product, from earlier measurements.
    #[must_use]
    pub fn with_tiles(self, tiles: Tiles) -> Self {
        GpuRunner { tiles: RefCell::new(tiles), ..self }
    }

    /// Whether products of an unknown class are measured when a program is prepared. Takes a second or two on a GPU the
    /// first time; on a processor that stands in for one, minutes.
    pub fn measure_tiles(&self, on: bool) {
        self.measures_tiles.set(on && !self.recorder.is_planned());
    }

    /// The choices, with what was measured.
    #[must_use]
    pub fn tiles(&self) -> Tiles {
        self.tiles.borrow().clone()
    }

    /// Every measurement since the runner was made.
    #[must_use]
    pub fn measured(&self) -> Vec<Measured> {
        self.measured.borrow().clone()
    }

    /// What the adapter can do.
    #[must_use]
    pub fn caps(&self) -> &Caps {
        self.recorder.caps()
    }

    /// The type of activations.
    #[must_use]
    pub fn element(&self) -> Element {
        self.element
    }

    /// What the device was asked for so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.recorder.counts()
    }

    /// Seconds of the host's time spent recording commands so far, without what the driver does when it gets them.
    #[must_use]
    pub fn record_secs(&self) -> f64 {
        self.recorder.record_secs()
    }

    /// Forgets the peak of bytes, which then is what is alive now.
    pub fn reset_peak(&self) {
        self.recorder.reset_peak();
    }

    /// Times every kernel from now on.
    ///
    /// # Errors
    /// [`Error::Device`] when the adapter has no timestamps.
    pub fn start_profile(&self) -> Result<()> {
        self.recorder.start_profile()
    }

    /// The times since [`GpuRunner::start_profile`].
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn finish_profile(&self) -> Result<Option<Profile>> {
        self.recorder.finish_profile().await
    }

    /// Gives up the device, as a reset of the driver would: for tests of what follows.
    pub fn destroy_device(&self) {
        self.recorder.destroy_device();
    }

    fn settings<'a>(&self, element: Element, tiles: &'a Tiles) -> Settings<'a> {
        let caps = self.recorder.caps();
        Settings {
            element,
            max_binding_bytes: caps.max_binding_bytes,
            max_buffer_bytes: caps.max_buffer_bytes,
            bands: self.bands,
            tiles,
        }
    }

    /// One launch outside any program.
    fn run_once(&self, launch: &Launch, operands: &[Range<'_>]) {
        let params = self.recorder.pooled(launch.params.len() as u64);
        self.recorder.write(&params, 0, &launch.params);
        let pipeline = self.recorder.pipeline(launch);
        let group = self.recorder.group(launch, &pipeline, &params, operands);
        let command =
            Command::Dispatch { launch, pipeline: &pipeline, group: &group, params_offset: 0, shape: "", flops: 0 };
        self.recorder.submit(&[command]);
    }

    fn tensor(&self, shape: &[usize], kind: Kind) -> GpuTensor {
        let n_bytes = shape.iter().product::<usize>() as u64 * kind.bytes();
        GpuTensor { buffer: Rc::new(self.recorder.pooled(n_bytes)), offset: 0, shape: shape.to_vec(), kind }
    }

    fn floats(&self, shape: &[usize], element: Element) -> GpuTensor {
        self.tensor(shape, Kind::Floats(element))
    }

    fn unused(&self, i: usize) -> Range<'_> {
        Range { buffer: &self.unused, offset: i as u64 * ALIGNMENT, n_bytes: UNUSED_BYTES }
    }

    fn unused_weight(&self) -> Range<'_> {
        Range { buffer: &self.unused_weight, offset: 0, n_bytes: UNUSED_BYTES }
    }

    fn fail<T>(&self, node: &str, reason: String) -> Result<T> {
        Err(Error::Run { node: node.to_string(), device: self.describe(), reason })
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

    /// The values of a tensor in another type.
    fn cast(&self, tensor: &GpuTensor, element: Element) -> Result<GpuTensor> {
        let out = self.floats(&tensor.shape, element);
        let n_values = tensor.n_values() as u32;
        let launch = match element {
            Element::F32 => cast_to_f32::launch(n_values, tensor.element())?,
            Element::F16 => cast_from_f32::launch(n_values, element)?,
        };
        self.run_once(&launch, &[tensor.range(), out.range()]);
        Ok(out)
    }

    /// One buffer of weights, a piece of the checkpoint at a time. `raw` has room for the largest matrix in f16.
    async fn place(&self, wanted: &WeightBuffer, weights: &Weights, raw: &Buffer) -> Result<Buffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let make = |n_bytes| self.recorder.buffer(&wanted.key, n_bytes, usage, Purpose::Weights);
        let n_values = |spec: &WeightSpec| spec.shape.iter().product::<usize>() as u64;
        let Form::Packed { geglu } = wanted.form else {
            let width = if wanted.form == Form::Vector { 4 } else { 2 };
            let buffer = make(self.buffer_bytes(wanted)?);
            let mut at = 0;
            for part in &wanted.parts {
                self.upload_weight(part, weights, &buffer, at, wanted.form == Form::Vector).await?;
                at += width * n_values(part);
            }
            return Ok(buffer);
        };
        let buffer = make(self.buffer_bytes(wanted)?);
        let columns = wanted.parts.iter().map(|part| part.shape[0] as u32).sum();
        let mut first_column = 0;
        for part in &wanted.parts {
            self.upload_weight(part, weights, raw, 0, false).await?;
            let (outputs, inputs) = (part.shape[0] as u32, part.shape[1] as u32);
            let taps = part.shape[2..].iter().product::<usize>() as u32;
            let alone = repack::Repack::alone(outputs, inputs, taps, geglu, repack::Raw::F16);
            let repack = repack::Repack { first_column, columns, ..alone };
            let raw =
                Range { buffer: raw, offset: 0, n_bytes: (2 * n_values(part)).next_multiple_of(4).max(UNUSED_BYTES) };
            self.run_once(&repack::launch(&repack)?, &[raw, buffer.whole()]);
            first_column += outputs;
        }
        Ok(buffer)
    }

    /// Bytes of one buffer of weights.
    fn buffer_bytes(&self, wanted: &WeightBuffer) -> Result<u64> {
        let n_values = wanted.parts.iter().map(|part| part.shape.iter().product::<usize>() as u64).sum::<u64>();
        let n_bytes = match wanted.form {
            Form::Vector => 4 * n_values,
            Form::Table => 2 * n_values,
            Form::Packed { .. } => {
                let columns = wanted.parts.iter().map(|part| part.shape[0]).sum::<usize>();
                let rows = wanted.parts[0].shape[1..].iter().product::<usize>();
                2 * rows as u64 * columns.next_multiple_of(4) as u64
            }
        };
        let allows = self.recorder.caps().max_binding_bytes;
        if n_bytes > allows {
            return Err(Error::Limit { what: format!("the weight {}", wanted.key), needs: n_bytes, allows });
        }
        Ok(n_bytes)
    }

    /// A tensor of the checkpoint to a buffer, in f32 or f16.
    async fn upload_weight(
        &self,
        spec: &WeightSpec,
        weights: &Weights,
        to: &Buffer,
        offset: u64,
        wide: bool,
    ) -> Result<()> {
        let n_values = spec.shape.iter().product::<usize>() as u64;
        let to_bytes = if wide { 4 } else { 2 };
        if self.recorder.is_planned() {
            self.recorder.count_upload(n_values * to_bytes);
            return Ok(());
        }
        let Some(info) = weights.get(&spec.name) else {
            return self.fail(&spec.name, "the weight is not in the checkpoint".into());
        };
        let dtype = info.dtype.clone();
        let from_bytes = dtype.n_bytes().unwrap_or(4) as u64;
        let piece = PIECE_BYTES / from_bytes;
        let mut first = 0;
        while first < n_values {
            let n = piece.min(n_values - first);
            let bytes = weights.read_part(&spec.name, first * from_bytes, (n * from_bytes) as usize).await?;
            let at = offset + first * to_bytes;
            if !wide && dtype == Dtype::F16 {
                self.recorder.write(to, at, &bytes);
            } else {
                let Some(values) = f32_from_le_bytes(&dtype, &bytes) else {
                    return self.fail(&spec.name, format!("the weight has type {}", dtype.name()));
                };
                drop(bytes);
                if wide {
                    self.recorder.write(to, at, bytemuck::cast_slice(&values));
                } else {
                    self.recorder.write(to, at, bytemuck::cast_slice(&self.halves(&spec.name, &values)?));
                }
            }
            first += n;
        }
        Ok(())
    }

    fn halves(&self, name: &str, values: &[f32]) -> Result<Vec<f16>> {
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        if halves.iter().zip(values).any(|(half, value)| half.is_infinite() && value.is_finite()) {
            return self
                .fail(name, "the weight has values above 65504, which 16 bits cannot hold: draw on the CPU".into());
        }
        Ok(halves)
    }

    /// Where the operands of a dispatch are.
    fn ranges<'a>(
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

    /// Times each tile on each product whose class nobody knows yet.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn tune(&self, gemms: &[gemm::Gemm], element: Element) -> Result<()> {
        let mut classes: BTreeMap<String, gemm::Gemm> = BTreeMap::new();
        for gemm in gemms {
            if !self.tiles.borrow().knows(gemm, element)? {
                classes.entry(Tiles::class(gemm, element)?).or_insert(*gemm);
            }
        }
        for (class, gemm) in classes {
            let measured = self.measure(&class, &gemm, element).await?;
            self.tiles.borrow_mut().learn(&measured);
            self.measured.borrow_mut().extend(measured);
        }
        Ok(())
    }

    /// One class: every tile that can do it, whole and with its sums in parts.
    async fn measure(&self, class: &str, wanted: &gemm::Gemm, element: Element) -> Result<Vec<Measured>> {
        // What is in front of the product and behind it costs the same with any tile.
        let epilogue = gemm::Epilogue { geglu: wanted.epilogue.geglu, ..gemm::Epilogue::default() };
        let gemm = gemm::Gemm { epilogue, norm_eps: None, first_out_row: 0, ..*wanted };
        let m = gemm.m()?;
        let source = gemm.source;
        let pixels = u64::from(source.batch) * u64::from(source.in_size[0]) * u64::from(source.in_size[1]);
        let usage = wgpu::BufferUsages::STORAGE;
        let room = |n_bytes| self.recorder.buffer("tiles", n_bytes, usage, Purpose::Other);
        let x = source.channels.map(|channels| room(pixels * u64::from(channels) * element.bytes()));
        let weight = room(2 * u64::from(gemm.k()) * u64::from(gemm.n.next_multiple_of(4)));
        let out = room(u64::from(m) * u64::from(gemm.n_stored()) * element.bytes());
        let (_, default_splits) = gemm.default_plan()?;
        let mut splits_tried = vec![1, default_splits, 2 * default_splits];
        splits_tried.dedup();
        let flops = 2.0 * f64::from(m) * f64::from(gemm.n) * f64::from(gemm.k());
        let mut measured = Vec::new();
        for &tile in gemm::TILES {
            for &splits in &splits_tried {
                if !gemm.allows(tile, splits) {
                    continue;
                }
                let partial = room(if splits > 1 { gemm.partial_bytes(splits)? } else { UNUSED_BYTES });
                let mut launches = vec![gemm::launch(&gemm, element, tile, splits)?];
                if splits > 1 {
                    launches.push(splitk_reduce::launch(&gemm, element, splits)?);
                }
                let product = [
                    x[0].whole(),
                    if source.channels[1] > 0 { x[1].whole() } else { self.unused(1) },
                    weight.whole(),
                    self.unused_weight(),
                    self.unused(4),
                    self.unused(5),
                    if splits > 1 { self.unused(6) } else { out.whole() },
                    if splits > 1 { partial.whole() } else { self.unused(7) },
                ];
                let reduce = [partial.whole(), self.unused_weight(), self.unused(2), self.unused(3), out.whole()];
                let operands: [&[Range<'_>]; 2] = [&product, &reduce];
                // Once for the compiler, then some milliseconds' worth.
                let n_runs = (self.flops_per_sec.get() * 5e-3 / flops).clamp(1.0, 50.0) as usize;
                let mut secs = f64::INFINITY;
                for n in [1, n_runs, n_runs] {
                    let start = Instant::now();
                    self.repeat(&launches, &operands, n).await;
                    secs = secs.min(start.elapsed().as_secs_f64() / n as f64);
                }
                self.recorder.check("measuring tiles")?;
                let gflops = flops / secs / 1e9;
                measured.push(Measured { class: class.to_string(), tile: tile.name, splits, secs, gflops });
            }
        }
        Ok(measured)
    }

    async fn repeat(&self, launches: &[Launch], operands: &[&[Range<'_>]], n: usize) {
        let mut prepared = Vec::new();
        for (launch, operands) in launches.iter().zip(operands) {
            let params = self.recorder.pooled(launch.params.len() as u64);
            self.recorder.write(&params, 0, &launch.params);
            let pipeline = self.recorder.pipeline(launch);
            let group = self.recorder.group(launch, &pipeline, &params, operands);
            prepared.push((launch, pipeline, group, params));
        }
        let mut commands = Vec::new();
        for _ in 0..n {
            for (launch, pipeline, group, _) in &prepared {
                commands.push(Command::Dispatch { launch, pipeline, group, params_offset: 0, shape: "", flops: 0 });
            }
        }
        let ticket = self.recorder.submit(&commands);
        self.recorder.wait(ticket).await;
    }

    fn program(&self, graph: &Graph, element: Element) -> Result<Program> {
        let tiles = self.tiles.borrow();
        Program::new(graph, self.settings(element, &tiles))
    }

    fn ready(&self, program: Program) -> GpuProgram {
        let mut params = Vec::new();
        let mut offsets = Vec::with_capacity(program.dispatches.len());
        for dispatch in &program.dispatches {
            offsets.push(params.len() as u32);
            params.extend_from_slice(&dispatch.launch.params);
            params.resize(params.len().next_multiple_of(ALIGNMENT as usize), 0);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = self.recorder.buffer("params", params.len() as u64, usage, Purpose::Other);
        self.recorder.write(&buffer, 0, &params);
        GpuProgram { program, params: buffer, offsets, recorded: RefCell::new(None) }
    }

    /// The dispatches of a program, cut into submits. One is always under way while the next is recorded.
    async fn replay(
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
    fn learn_speed(&self, flops: u64, last_end: &mut Instant) {
        let secs = last_end.elapsed().as_secs_f64();
        *last_end = Instant::now();
        if flops as f64 >= FIRST_SUBMIT_FLOPS && !self.recorder.is_planned() {
            self.flops_per_sec.set(0.5 * self.flops_per_sec.get() + 0.5 * flops as f64 / secs.max(1e-6));
        }
    }

    fn same_element(&self, what: &str, tensors: &[&GpuTensor]) -> Result<Element> {
        match tensors {
            [first, rest @ ..] if rest.iter().all(|tensor| tensor.kind == first.kind) => Ok(first.element()),
            _ => self.fail(what, "cannot combine tensors of different types".into()),
        }
    }
}

/// Whether there is an operand for each binding.
fn fits(kernel: &Kernel, operands: &[Operand]) -> bool {
    kernel.bindings.len() == operands.len() + 1 && kernel.bindings[0] == Binding::Uniform
}

impl Runner for GpuRunner {
    type Tensor = GpuTensor;
    type Weights = GpuWeights;
    type Program = GpuProgram;

    fn describe(&self) -> String {
        let element = match self.element {
            Element::F32 => "f32",
            Element::F16 => "f16",
        };
        format!("gpu ({}, {element})", self.recorder.caps().name)
    }

    async fn load(&self, graphs: &[Graph], weights: &Weights, progress: &mut dyn FnMut(u64)) -> Result<GpuWeights> {
        let mut wanted: BTreeMap<String, WeightBuffer> = BTreeMap::new();
        for graph in graphs {
            wanted.extend(lower(graph).weights(graph).into_iter().map(|buffer| (buffer.key.clone(), buffer)));
        }
        let n_bytes_of = |spec: &WeightSpec| 2 * spec.shape.iter().product::<usize>() as u64;
        let matrices = wanted.values().filter(|buffer| matches!(buffer.form, Form::Packed { .. }));
        let largest = matrices.flat_map(|buffer| &buffer.parts).map(n_bytes_of).max().unwrap_or(0);
        let scope = self.recorder.open_scope();
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let raw = self.recorder.buffer("raw weight", largest, usage, Purpose::Other);
        let mut buffers = HashMap::with_capacity(wanted.len());
        let (mut n_bytes, mut unwaited) = (0, 0);
        for (key, buffer) in wanted {
            let placed = self.place(&buffer, weights, &raw).await?;
            unwaited += placed.n_bytes;
            buffers.insert(key, placed);
            n_bytes += buffer.parts.iter().filter_map(|part| weights.get(&part.name)).map(|i| i.n_bytes).sum::<u64>();
            progress(n_bytes);
            // What is written is copied once more on its way, until the device has taken it.
            if unwaited > 64 << 20 {
                let ticket = self.recorder.submit(&[]);
                self.recorder.wait(ticket).await;
                unwaited = 0;
                self.recorder.check("load")?;
            }
        }
        self.recorder.close(scope, "load").await?;
        let id = self.next_weights.replace(self.next_weights.get() + 1);
        Ok(GpuWeights { id, buffers })
    }

    fn use_attention(&self, flash: bool, _sliced: Option<usize>) -> Result<()> {
        if flash {
            return Ok(());
        }
        Err(Error::Request {
            field: "attention",
            got: "other than flash on the GPU".into(),
            expected: "use flash attention, or draw on the CPU".into(),
        })
    }

    async fn prepare(&self, graph: Graph) -> Result<GpuProgram> {
        let mut program = self.program(&graph, self.element)?;
        if self.measures_tiles.get() {
            let before = self.tiles.borrow().len();
            self.tune(&program.gemms, program.element).await?;
            if self.tiles.borrow().len() > before {
                program = self.program(&graph, self.element)?;
            }
        }
        Ok(self.ready(program))
    }

    async fn prepare_f32(&self, graph: Graph) -> Result<Option<GpuProgram>> {
        if self.element == Element::F32 || graph.needs_f32 {
            return Ok(None);
        }
        Ok(Some(self.ready(self.program(&graph, Element::F32)?)))
    }

    async fn run(
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
        let replayed = self.replay(program, &recorded, copies.collect(), progress).await;
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

    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<GpuTensor> {
        let tensor = self.floats(shape, Element::F32);
        self.recorder.write(&tensor.buffer, 0, bytemuck::cast_slice(values));
        Ok(tensor)
    }

    fn upload_ids(&self, ids: &[u32], shape: &[usize]) -> Result<GpuTensor> {
        let tensor = self.tensor(shape, Kind::Ids);
        self.recorder.write(&tensor.buffer, 0, bytemuck::cast_slice(ids));
        Ok(tensor)
    }

    async fn download(&self, tensor: &GpuTensor) -> Result<Vec<f32>> {
        self.recorder.check("download")?;
        let wide = match tensor.element() {
            Element::F32 => tensor.clone(),
            Element::F16 => self.cast(tensor, Element::F32)?,
        };
        let range = Range { n_bytes: wide.n_bytes(), ..wide.range() };
        let bytes = self.recorder.read(range).await.map_err(|error| self.recorder.explain("download", error))?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    async fn count_non_finite(&self, tensor: &GpuTensor) -> Result<u64> {
        let counter = self.recorder.pooled(4);
        self.recorder.write(&counter, 0, &[0; 4]);
        let launch = count_non_finite::launch(tensor.n_values() as u32, tensor.element())?;
        let range = Range { buffer: &counter, offset: 0, n_bytes: UNUSED_BYTES };
        self.run_once(&launch, &[tensor.range(), range]);
        let word = Range { n_bytes: 4, ..range };
        let bytes = self.recorder.read(word).await.map_err(|error| self.recorder.explain("check of values", error))?;
        Ok(bytes.first_chunk().map_or(0, |word| u64::from(u32::from_le_bytes(*word))))
    }

    async fn rgba(&self, tensor: &GpuTensor, step: usize, colours: &Colours) -> Result<Vec<u8>> {
        let [_, height, width, channels] = four(&tensor.shape)?;
        let launch = rgba::launch([height, width], step as u32, channels, colours, tensor.element())?;
        let [out_h, out_w] = rgba::out_size([height, width], step as u32);
        let out = self.tensor(&[(out_h * out_w) as usize], Kind::Ids);
        self.run_once(&launch, &[tensor.range(), out.range()]);
        let range = Range { n_bytes: out.n_bytes(), ..out.range() };
        self.recorder.read(range).await.map_err(|error| self.recorder.explain("picture", error))
    }

    fn lincomb(&self, terms: &[(f64, &GpuTensor)], clamp: Option<(f64, f64)>) -> Result<GpuTensor> {
        let Some((_, first)) = terms.first() else { return self.fail("lincomb", "wants at least one term".into()) };
        if let Some((_, other)) = terms.iter().find(|(_, x)| x.shape != first.shape) {
            return self.fail("lincomb", format!("cannot add {:?} to {:?}", other.shape, first.shape));
        }
        let element = self.same_element("lincomb", &terms.iter().map(|(_, x)| *x).collect::<Vec<_>>())?;
        // Two ranges of a dispatch must not be the same: factors of one tensor are added up first.
        let mut merged: Vec<(f32, &GpuTensor)> = Vec::new();
        for (factor, tensor) in terms {
            let same = |known: &GpuTensor| Rc::ptr_eq(&known.buffer, &tensor.buffer) && known.offset == tensor.offset;
            match merged.iter_mut().find(|(_, known)| same(known)) {
                Some((sum, _)) => *sum += *factor as f32,
                None => merged.push((*factor as f32, tensor)),
            }
        }
        let coefficients: Vec<f32> = merged.iter().map(|(factor, _)| *factor).collect();
        let clamp = clamp.map(|(low, high)| (low as f32, high as f32));
        let launch = lincomb::launch(&coefficients, first.n_values() as u32, clamp, element)?;
        let out = self.floats(&first.shape, element);
        let mut operands: Vec<Range> = merged.iter().map(|(_, tensor)| tensor.range()).collect();
        operands.extend((operands.len()..lincomb::MAX_TERMS).map(|i| self.unused(i)));
        operands.push(out.range());
        self.run_once(&launch, &operands);
        Ok(out)
    }

    fn blend(&self, mask: &GpuTensor, a: &GpuTensor, b: &GpuTensor) -> Result<GpuTensor> {
        let element = self.same_element("blend", &[mask, a, b])?;
        let channels = a.shape.last().copied().unwrap_or(1) as u32;
        let pixels = a.n_values() as u32 / channels.max(1);
        let launch = blend::launch(pixels, channels, element)?;
        let out = self.floats(&a.shape, element);
        self.run_once(&launch, &[mask, a, b, &out].map(GpuTensor::range));
        Ok(out)
    }

    fn concat(&self, parts: &[&GpuTensor], axis: usize) -> Result<GpuTensor> {
        let Some(first) = parts.first() else { return self.fail("concat", "wants at least one tensor".into()) };
        let element = self.same_element("concat", parts)?;
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let out = self.tensor(&shape, first.kind);
        // Parts that lie one behind the other are copied as they are.
        let is_outermost = shape[..axis].iter().all(|&n| n == 1);
        if is_outermost && parts.iter().all(|part| part.n_bytes().is_multiple_of(4)) {
            let mut commands = Vec::new();
            let mut to_offset = 0;
            for part in parts {
                let n_bytes = part.n_bytes();
                commands.push(Command::Copy { from: Range { n_bytes, ..part.range() }, to: &out.buffer, to_offset });
                to_offset += n_bytes;
            }
            self.recorder.submit(&commands);
            drop(commands);
            return Ok(out);
        }
        let axis4 = axis + 4 - shape.len();
        let mut start = 0;
        for part in parts {
            let size = four(&part.shape)?;
            let launch = copy::launch(&copy::Copy::into_part(size, four(&shape)?, axis4, start), element)?;
            self.run_once(&launch, &[part.range(), out.range()]);
            start += size[axis4];
        }
        Ok(out)
    }

    fn slice(&self, tensor: &GpuTensor, axis: usize, start: usize, len: usize) -> Result<GpuTensor> {
        let mut shape = tensor.shape.clone();
        if start + len > shape[axis] {
            return self.fail("slice", format!("{start}..{} is outside axis {axis} of {shape:?}", start + len));
        }
        shape[axis] = len;
        // What lies in one piece at a place that can be bound needs no copy.
        let piece = tensor.shape[axis + 1..].iter().product::<usize>() as u64 * tensor.kind.bytes();
        let offset = tensor.offset + start as u64 * piece;
        let is_outermost = tensor.shape[..axis].iter().all(|&n| n == 1);
        if is_outermost && offset.is_multiple_of(ALIGNMENT) && (len as u64 * piece).is_multiple_of(ALIGNMENT) {
            return Ok(GpuTensor { buffer: Rc::clone(&tensor.buffer), offset, shape, kind: tensor.kind });
        }
        let axis4 = axis + 4 - shape.len();
        let slice = copy::Copy::slice(four(&tensor.shape)?, axis4, start as u32, len as u32);
        let out = self.tensor(&shape, tensor.kind);
        let launch = copy::launch(&slice, tensor.element())?;
        self.run_once(&launch, &[tensor.range(), out.range()]);
        Ok(out)
    }

    fn trim(&self) {
        self.arena.borrow_mut().clear();
        self.recorder.drain_pool();
    }
}
