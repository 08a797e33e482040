//! The WebGPU runner: programs recorded into command buffers, on any wgpu adapter, natively and in the browser; or on none
//! ([`GpuRunner::planned`]), to find out what a device would be asked for.

mod arithmetic;
mod load;
mod once;
mod replay;
mod slices;
mod stream;
mod tensor;
mod tune;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

pub use tensor::GpuTensor;

use super::arena::ALIGNMENT;
use super::bands::BandSizes;
use super::buffer::{Buffer, Range};
use super::kernel::{Element, Launch};
use super::kernels::elementwise::{copy, count_non_finite};
use super::kernels::sampling::lincomb;
use super::ledger::{Counts, Purpose};
use super::lower::{Lowered, Memo};
use super::profile::Profile;
use super::program::{Program, Settings};
use super::recorder::Recorder;
use super::tiles::{Measured, Tiles};
use super::weight_layout::WeightKey;
use super::{Caps, Gpu};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::run::{Colours, Runner};
use crate::weights::{WeightType, Weights};
use replay::Recorded;

pub use replay::{FIRST_FLOPS_PER_SEC, submit_secs};
use stream::Streamed;
use tensor::Kind;

/// Bindings of one dispatch that may be without use.
const MAX_UNUSED: u64 = 8;

/// The weights of one component, packed for the kernels.
#[derive(Debug)]
pub struct GpuWeights {
    id: u64,
    buffers: HashMap<WeightKey, Buffer>,
    /// Those that are brought in while a program runs, if they are too large to stay.
    streamed: Option<Streamed>,
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
    /// Graphs that were lowered lately.
    lowered: Memo,
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
            lowered: Memo::default(),
            unused,
            unused_weight,
            next_weights: Cell::new(0),
            flops_per_sec: Cell::new(FIRST_FLOPS_PER_SEC),
        }
    }

    /// The speed that submits are paced for until it is measured, in floating-point operations a second.
    #[must_use]
    pub fn with_speed(self, flops_per_sec: f64) -> Self {
        self.flops_per_sec.set(flops_per_sec);
        self
    }

    /// The speed that submits are paced for now, in floating-point operations a second.
    #[must_use]
    pub fn flops_per_sec(&self) -> f64 {
        self.flops_per_sec.get()
    }

    /// How large pictures are cut, where the default is not what is wanted.
    #[must_use]
    pub fn with_bands(self, bands: BandSizes) -> Self {
        GpuRunner { bands, ..self }
    }

    /// The type that weights are held in, as far as each is fit for it ([`WeightType::of_weight`]).
    #[must_use]
    pub fn with_weights(self, weight_type: WeightType) -> Self {
        GpuRunner { lowered: Memo::new(weight_type), ..self }
    }

    /// Holds the weights that are loaded from now on in another type. What was loaded and prepared before does not go with
    /// what is prepared afterwards.
    pub fn hold_weights_in(&self, weight_type: WeightType) {
        self.lowered.hold_weights_in(weight_type);
    }

    /// The type that weights are held in.
    #[must_use]
    pub fn weight_type(&self) -> WeightType {
        self.lowered.weight_type()
    }

    /// Which tile serves which product, from earlier measurements.
    #[must_use]
    pub fn with_tiles(self, tiles: Tiles) -> Self {
        GpuRunner { tiles: RefCell::new(tiles), ..self }
    }

    /// Whether products and attentions of an unknown class are measured when a program is prepared. Takes a second or two on a GPU the
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
            machine: caps.machine(element),
            max_binding_bytes: caps.max_binding_bytes,
            max_buffer_bytes: caps.max_buffer_bytes,
            bands: self.bands,
            tiles,
        }
    }

    fn tensor(&self, shape: &[usize], kind: Kind) -> GpuTensor {
        let n_bytes = shape.iter().product::<usize>() as u64 * kind.bytes();
        GpuTensor { buffer: Rc::new(self.recorder.pooled(n_bytes)), offset: 0, shape: shape.to_vec(), kind }
    }

    fn floats(&self, shape: &[usize], element: Element) -> GpuTensor {
        self.tensor(shape, Kind::Floats(element))
    }

    fn next_weights_id(&self) -> u64 {
        self.next_weights.replace(self.next_weights.get() + 1)
    }

    fn fail<T>(&self, node: &str, reason: String) -> Result<T> {
        Err(Error::Run { node: node.to_string(), device: self.describe(), reason })
    }

    fn program(&self, graph: &Graph, lowered: &Lowered, element: Element) -> Result<Program> {
        let tiles = self.tiles.borrow();
        Program::new(graph, lowered, self.settings(element, &tiles))
    }

    fn knows_tiles(&self, program: &Program) -> bool {
        let tiles = self.tiles.borrow();
        let machine = self.recorder.caps().machine(program.element);
        program.gemms.iter().all(|gemm| matches!(tiles.knows(gemm, program.element), Ok(true)))
            && program.attentions.iter().all(|attention| {
                !attention.has_choice(&machine) || tiles.knows_class(&attention.class(program.element))
            })
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

    async fn load(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<GpuWeights> {
        self.load_weights(graphs, weights, progress).await
    }

    async fn load_within(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        most_bytes: u64,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<GpuWeights> {
        self.load_weights_within(graphs, weights, most_bytes, progress).await
    }

    async fn replace(&self, graphs: &[Graph], weights: &Weights, names: &[String], loaded: &GpuWeights) -> Result<()> {
        self.replace_weights(graphs, weights, names, loaded).await
    }

    fn trim(&self) {
        self.arena.borrow_mut().clear();
        self.lowered.clear();
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

    fn needs_values(&self) -> bool {
        !self.recorder.is_planned()
    }

    fn foresee(&self, graphs: &[Graph]) {
        if self.recorder.is_planned() {
            return;
        }
        let program = |graph: &Graph| self.program(graph, &self.lowered.of(graph), self.element).ok();
        for program in graphs.iter().filter_map(program) {
            // Which kernels multiply is not known before the tiles are.
            if !self.measures_tiles.get() || self.knows_tiles(&program) {
                self.recorder.compile_ahead(program.dispatches.iter().map(|dispatch| &dispatch.launch));
            }
        }
        self.recorder.compile_ahead(&self.launches_beside_programs());
    }

    async fn prepare(&self, graph: Graph) -> Result<GpuProgram> {
        let lowered = self.lowered.of(&graph);
        let mut program = self.program(&graph, &lowered, self.element)?;
        if self.measures_tiles.get() {
            let before = self.tiles.borrow().len();
            self.tune(&program.gemms, program.element).await?;
            self.tune_attentions(&program.attentions, program.element).await?;
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
        Ok(Some(self.ready(self.program(&graph, &self.lowered.of(&graph), Element::F32)?)))
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
        let bytes = self.recorder.read(range, "download").await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    async fn count_non_finite(&self, tensor: &GpuTensor) -> Result<u64> {
        self.count_bad(tensor).await
    }

    async fn rgba(&self, tensor: &GpuTensor, step: usize, colours: &Colours) -> Result<Vec<u8>> {
        self.pixels(tensor, step, colours).await
    }

    fn lincomb(&self, terms: &[(f64, &GpuTensor)], clamp: Option<(f64, f64)>) -> Result<GpuTensor> {
        self.combined(terms, clamp)
    }

    fn blend(&self, mask: &GpuTensor, a: &GpuTensor, b: &GpuTensor) -> Result<GpuTensor> {
        self.blended(mask, a, b)
    }

    fn concat(&self, parts: &[&GpuTensor], axis: usize) -> Result<GpuTensor> {
        self.joined(parts, axis)
    }

    fn slice(&self, tensor: &GpuTensor, axis: usize, start: usize, len: usize) -> Result<GpuTensor> {
        self.sliced(tensor, axis, start, len)
    }
}
