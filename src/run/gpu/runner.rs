//! The WebGPU runner: programs recorded into command buffers, on any wgpu adapter, natively and in the browser; or on none
//! ([`GpuRunner::planned`]), to find out what a device would be asked for.

mod load;
mod replay;
mod tensor;
mod tune;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

pub use tensor::GpuTensor;

use super::arena::ALIGNMENT;
use super::bands::BandSizes;
use super::emit::four;
use super::kernel::{Bind, Binding, Element, Launch, UNUSED_BYTES};
use super::kernels::elementwise::{cast_from_f32, cast_to_f32, copy, count_non_finite, rgba};
use super::kernels::sampling::{blend, lincomb};
use super::ledger::{Counts, Purpose};
use super::lower::{Lowered, lower};
use super::profile::Profile;
use super::program::{Program, Settings};
use super::recorder::{Buffer, Command, Range, Recorder};
use super::tiles::{Measured, Tiles};
use super::weight_layout::WeightKey;
use super::{Caps, Gpu};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::run::{Colours, Runner};
use crate::weights::Weights;
use replay::{FIRST_SUBMIT_FLOPS, Recorded, SUBMIT_SECS};
use tensor::Kind;

/// Bindings of one dispatch that may be without use.
const MAX_UNUSED: u64 = 8;

/// The weights of one component, packed for the kernels.
#[derive(Debug)]
pub struct GpuWeights {
    id: u64,
    buffers: HashMap<WeightKey, Buffer>,
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
            matrices: caps.matrices,
            max_workgroup_bytes: caps.max_workgroup_bytes,
            max_binding_bytes: caps.max_binding_bytes,
            max_buffer_bytes: caps.max_buffer_bytes,
            bands: self.bands,
            tiles,
        }
    }

    /// The ranges that a launch is bound to: what no binding may be without is put where a launch does not use one.
    fn filled<'a>(&'a self, launch: &Launch, operands: Vec<Option<Range<'a>>>) -> Vec<Range<'a>> {
        let bindings = &launch.kernel.bindings[1..];
        let fill = |(i, (operand, (_, binding))): (usize, (Option<Range<'a>>, &(&str, Binding)))| match binding {
            _ if operand.is_some() => operand,
            Binding::Read => Some(self.unused_weight()),
            Binding::ReadWrite | Binding::Uniform => Some(self.unused(i)),
        };
        operands.into_iter().zip(bindings).enumerate().filter_map(fill).collect()
    }

    /// The ranges of typed bindings.
    fn bound<'a, B: Bind<Operand = Range<'a>>>(&'a self, launch: &Launch, bindings: B) -> Vec<Range<'a>> {
        debug_assert_eq!(launch.kernel.bindings, B::BINDINGS, "{}: bound as another kernel", launch.kernel.name);
        self.filled(launch, bindings.list())
    }

    /// One launch outside any program.
    fn run_once<'a, B: Bind<Operand = Range<'a>>>(&'a self, launch: &Launch, bindings: B) {
        let operands = &self.bound(launch, bindings);
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

    /// The values of a tensor in another type.
    fn cast(&self, tensor: &GpuTensor, element: Element) -> Result<GpuTensor> {
        let out = self.floats(&tensor.shape, element);
        let n_values = tensor.n_values() as u32;
        let (x, into) = (tensor.range(), out.range());
        match element {
            Element::F32 => {
                let launch = cast_to_f32::launch(n_values, tensor.element())?;
                self.run_once(&launch, cast_to_f32::Bindings { x, out: into });
            }
            Element::F16 => {
                let launch = cast_from_f32::launch(n_values, element)?;
                self.run_once(&launch, cast_from_f32::Bindings { x, out: into });
            }
        }
        Ok(out)
    }

    fn program(&self, graph: &Graph, lowered: &Lowered, element: Element) -> Result<Program> {
        let tiles = self.tiles.borrow();
        Program::new(graph, lowered, self.settings(element, &tiles))
    }

    fn lowered(&self, graph: &Graph) -> Rc<Lowered> {
        Rc::new(lower(graph))
    }

    fn knows_tiles(&self, program: &Program) -> bool {
        let tiles = self.tiles.borrow();
        program.gemms.iter().all(|gemm| matches!(tiles.knows(gemm, program.element), Ok(true)))
    }

    /// A launch of each kernel that every picture needs outside of programs, as far as pipelines go.
    fn launches_beside_programs(&self) -> Vec<Launch> {
        let launches = [
            copy::launch(&copy::Copy::slice([1, 1, 1, 4], 3, 0, 4), self.element),
            lincomb::launch(&[1.0], 4, None, Element::F32),
            count_non_finite::launch(4, Element::F32),
        ];
        launches.into_iter().flatten().collect()
    }

    fn ready(&self, program: Program) -> GpuProgram {
        self.recorder.compile_ahead(program.dispatches.iter().map(|dispatch| &dispatch.launch));
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

    fn same_element(&self, what: &str, tensors: &[&GpuTensor]) -> Result<Element> {
        match tensors {
            [first, rest @ ..] if rest.iter().all(|tensor| tensor.kind == first.kind) => Ok(first.element()),
            _ => self.fail(what, "cannot combine tensors of different types".into()),
        }
    }
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
        self.load_weights(graphs, weights, progress).await
    }

    fn trim(&self) {
        self.arena.borrow_mut().clear();
        self.recorder.trim();
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

    fn foresee(&self, graphs: &[Graph]) {
        if self.recorder.is_planned() {
            return;
        }
        let program = |graph: &Graph| self.program(graph, &self.lowered(graph), self.element).ok();
        for program in graphs.iter().filter_map(program) {
            // Which kernels multiply is not known before the tiles are.
            if !self.measures_tiles.get() || self.knows_tiles(&program) {
                self.recorder.compile_ahead(program.dispatches.iter().map(|dispatch| &dispatch.launch));
            }
        }
        self.recorder.compile_ahead(&self.launches_beside_programs());
    }

    async fn prepare(&self, graph: Graph) -> Result<GpuProgram> {
        let lowered = self.lowered(&graph);
        let mut program = self.program(&graph, &lowered, self.element)?;
        if self.measures_tiles.get() {
            let before = self.tiles.borrow().len();
            self.tune(&program.gemms, program.element).await?;
            if self.tiles.borrow().len() > before {
                program = self.program(&graph, &lowered, self.element)?;
            }
        }
        Ok(self.ready(program))
    }

    async fn prepare_f32(&self, graph: Graph) -> Result<Option<GpuProgram>> {
        if self.element == Element::F32 || graph.needs_f32 {
            return Ok(None);
        }
        Ok(Some(self.ready(self.program(&graph, &self.lowered(&graph), Element::F32)?)))
    }

    async fn run(
        &self,
        program: &GpuProgram,
        weights: &GpuWeights,
        inputs: &[(&str, &GpuTensor)],
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<GpuTensor>> {
        self.run_program(program, weights, inputs, progress).await
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
        self.run_once(&launch, count_non_finite::Bindings { x: tensor.range(), total: range });
        let word = Range { n_bytes: 4, ..range };
        let bytes = self.recorder.read(word).await.map_err(|error| self.recorder.explain("check of values", error))?;
        Ok(bytes.first_chunk().map_or(0, |word| u64::from(u32::from_le_bytes(*word))))
    }

    async fn rgba(&self, tensor: &GpuTensor, step: usize, colours: &Colours) -> Result<Vec<u8>> {
        let [_, height, width, channels] = four(&tensor.shape)?;
        let launch = rgba::launch([height, width], step as u32, channels, colours, tensor.element())?;
        let [out_h, out_w] = rgba::out_size([height, width], step as u32);
        let out = self.tensor(&[(out_h * out_w) as usize], Kind::Ids);
        self.run_once(&launch, rgba::Bindings { x: tensor.range(), out: out.range() });
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
        let terms = merged.iter().map(|(_, tensor)| tensor.range()).collect();
        self.run_once(&launch, lincomb::Bindings { terms, result: out.range() });
        Ok(out)
    }

    fn blend(&self, mask: &GpuTensor, a: &GpuTensor, b: &GpuTensor) -> Result<GpuTensor> {
        let element = self.same_element("blend", &[mask, a, b])?;
        let channels = a.shape.last().copied().unwrap_or(1) as u32;
        let pixels = a.n_values() as u32 / channels.max(1);
        let launch = blend::launch(pixels, channels, element)?;
        let out = self.floats(&a.shape, element);
        let [mask, a, b, into] = [mask, a, b, &out].map(GpuTensor::range);
        self.run_once(&launch, blend::Bindings { mask, a, b, out: into });
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
            self.run_once(&launch, copy::Bindings { source: part.range(), out: out.range() });
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
        self.run_once(&launch, copy::Bindings { source: tensor.range(), out: out.range() });
        Ok(out)
    }
}
