//! The WebGPU runner: programs recorded into command buffers, on any wgpu adapter, natively and in the browser.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;

use super::kernels::{
    Binding, Element, Kernel, Launch, PipelineKey, UNUSED_BYTES, blend, cast_to_f32, copy, lincomb, pipeline, repack,
};
use super::program::{Dispatch, Operand, Program, four};
use super::{Gpu, readback};
use crate::error::{Error, Result};
use crate::graph::{Graph, WeightSpec};
use crate::run::Runner;
use crate::weights::Weights;

/// Work of one submit: about 150 ms at 20 GFLOP/s, which the slowest real GPUs exceed.
const SUBMIT_FLOPS: u64 = 3_000_000_000;
/// Offsets into uniform and storage buffers are its multiples on every adapter.
const ALIGNMENT: u64 = 256;
/// Bindings of one dispatch that may be without use.
const MAX_UNUSED: u64 = 8;

/// A buffer that is given back to the GPU with its last owner: in the browser dropping alone frees nothing.
#[derive(Debug)]
struct Owned(wgpu::Buffer);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

/// A tensor in a buffer of its own.
#[derive(Clone, Debug)]
pub struct GpuTensor {
    buffer: Rc<Owned>,
    shape: Vec<usize>,
}

/// The weights of one component, packed for the kernels, by the names of their tensors.
#[derive(Debug)]
pub struct GpuWeights(HashMap<String, Owned>);

/// A program with its parameters on the device.
#[derive(Debug)]
pub struct GpuProgram {
    program: Program,
    params: Owned,
    offsets: Vec<u32>,
}

struct Pipeline {
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
}

/// See the module.
pub struct GpuRunner {
    gpu: Gpu,
    element: Element,
    pipelines: RefCell<HashMap<PipelineKey, Rc<Pipeline>>>,
    arena: RefCell<Option<Rc<Owned>>>,
    faults: Faults,
    unused: Owned,
    unused_weight: Owned,
}

/// The first error that came outside a scope.
type Faults = Arc<Mutex<Option<String>>>;

/// A range of a buffer.
struct Range<'a> {
    buffer: &'a wgpu::Buffer,
    offset: u64,
    n_bytes: Option<u64>,
}

impl<'a> Range<'a> {
    fn whole(buffer: &'a wgpu::Buffer) -> Self {
        Range { buffer, offset: 0, n_bytes: None }
    }
}

impl GpuRunner {
    /// Takes an opened device. Activations are 16 bits wide where asked for and possible.
    ///
    /// # Errors
    /// [`Error::Device`] when 16 bits are asked for and the adapter lacks `shader-f16`.
    pub fn new(gpu: Gpu, element: Element) -> Result<Self> {
        if element == Element::F16 && !gpu.caps.shader_f16 {
            let reason = "lacks shader-f16: use f32".to_string();
            return Err(Error::Device { device: gpu.caps.name.clone(), reason });
        }
        let faults: Faults = Arc::default();
        let record = Arc::clone(&faults);
        // Without a handler wgpu ends the program on the first error outside a scope, such as running out of memory.
        gpu.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            record.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
        }));
        let storage = wgpu::BufferUsages::STORAGE;
        let unused = make_buffer(&gpu, "unused", MAX_UNUSED * ALIGNMENT, storage);
        let unused_weight = make_buffer(&gpu, "unused weight", ALIGNMENT, storage);
        Ok(GpuRunner {
            gpu,
            element,
            pipelines: RefCell::default(),
            arena: RefCell::default(),
            faults,
            unused,
            unused_weight,
        })
    }

    fn pipeline(&self, launch: &Launch) -> Rc<Pipeline> {
        let mut pipelines = self.pipelines.borrow_mut();
        let entry = pipelines.entry(launch.pipeline_key()).or_insert_with(|| {
            let layout = pipeline::bind_group_layout(&self.gpu.device, launch.kernel);
            let pipeline = pipeline::compile(&self.gpu.device, &layout, launch);
            Rc::new(Pipeline { layout, pipeline })
        });
        Rc::clone(entry)
    }

    fn record(&self, pass: &mut wgpu::ComputePass<'_>, launch: &Launch, params: Range<'_>, operands: &[Range<'_>]) {
        let pipeline = self.pipeline(launch);
        let dynamic_offset = params.offset as u32;
        let uniform = Range { buffer: params.buffer, offset: 0, n_bytes: Some(launch.params.len() as u64) };
        let entries: Vec<_> = (0..)
            .zip(std::iter::once(&uniform).chain(operands))
            .map(|(binding, range)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: range.buffer,
                    offset: range.offset,
                    size: range.n_bytes.and_then(NonZeroU64::new),
                }),
            })
            .collect();
        let group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(launch.kernel.name),
            layout: &pipeline.layout,
            entries: &entries,
        });
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[dynamic_offset]);
        let [x, y, z] = launch.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }

    /// One launch outside any program.
    fn run_once(&self, launch: &Launch, operands: &[Range<'_>]) {
        let params = self.upload_bytes("params", &launch.params, wgpu::BufferUsages::UNIFORM);
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.record(&mut pass, launch, Range::whole(&params.0), operands);
        }
        self.gpu.queue.submit([encoder.finish()]);
    }

    fn upload_bytes(&self, label: &str, bytes: &[u8], usage: wgpu::BufferUsages) -> Owned {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(4).max(UNUSED_BYTES as usize), 0);
        let buffer = make_buffer(&self.gpu, label, padded.len() as u64, usage | wgpu::BufferUsages::COPY_DST);
        self.gpu.queue.write_buffer(&buffer.0, 0, &padded);
        buffer
    }

    fn tensor(&self, shape: &[usize]) -> GpuTensor {
        let n_bytes = shape.iter().product::<usize>() as u64 * self.element.bytes();
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = make_buffer(&self.gpu, "tensor", n_bytes, usage);
        GpuTensor { buffer: Rc::new(buffer), shape: shape.to_vec() }
    }

    fn unused(&self, i: usize) -> Range<'_> {
        Range { buffer: &self.unused.0, offset: i as u64 * ALIGNMENT, n_bytes: Some(UNUSED_BYTES) }
    }

    fn element_bytes(&self, values: &[f32]) -> Vec<u8> {
        match self.element {
            Element::F32 => bytemuck::cast_slice(values).to_vec(),
            Element::F16 => f16_bytes(values),
        }
    }

    fn fail<T>(&self, node: &str, reason: String) -> Result<T> {
        Err(Error::Run { node: node.to_string(), device: self.describe(), reason })
    }

    /// The arena, at least as large as asked for. All programs share it, one after another.
    fn arena(&self, n_bytes: u64) -> Rc<Owned> {
        let mut arena = self.arena.borrow_mut();
        match &*arena {
            Some(buffer) if buffer.0.size() >= n_bytes => Rc::clone(buffer),
            _ => {
                // The smaller one is given back first.
                *arena = None;
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
                let buffer = Rc::new(make_buffer(&self.gpu, "arena", n_bytes.max(ALIGNMENT), usage));
                *arena = Some(Rc::clone(&buffer));
                buffer
            }
        }
    }

    /// Gives an error that came outside a scope to whoever waits for results.
    fn check_faults(&self, node: &str) -> Result<()> {
        match self.faults.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reason) => self.fail(node, reason.split_whitespace().collect::<Vec<_>>().join(" ")),
            None => Ok(()),
        }
    }

    /// Refuses what the adapter's limits do not allow, before anything is allocated.
    fn check_limits(&self, what: &str, n_bytes: u64, limit: u64, kind: &str) -> Result<()> {
        if n_bytes <= limit {
            return Ok(());
        }
        let reason = format!(
            "{what} needs {n_bytes} bytes, and this adapter allows {kind} of {limit}: draw a smaller picture, or on the CPU"
        );
        Err(Error::Device { device: self.gpu.caps.name.clone(), reason })
    }

    /// How a weight is held: vectors in f32, matrices packed, tables as they are, positions like activations.
    fn place_weight(&self, spec: &WeightSpec, values: &[f32]) -> Result<Owned> {
        let storage = wgpu::BufferUsages::STORAGE;
        if spec.shape.len() == 1 {
            return Ok(self.upload_bytes(&spec.name, bytemuck::cast_slice(values), storage));
        }
        if spec.name.ends_with("position_embedding.weight") {
            return Ok(self.upload_bytes(&spec.name, &self.element_bytes(values), storage));
        }
        let raw = self.upload_bytes(&spec.name, &f16_bytes(values), storage);
        if spec.name.ends_with("token_embedding.weight") {
            return Ok(raw);
        }
        let (outputs, inputs) = (spec.shape[0] as u32, spec.shape[1] as u32);
        let taps = spec.shape[2..].iter().product::<usize>() as u32;
        let geglu = spec.name.ends_with("ff.net.0.proj.weight");
        let repack = repack::Repack::alone(outputs, inputs, taps, geglu, repack::Raw::F16);
        let packed = make_buffer(&self.gpu, &spec.name, repack.packed_bytes().max(UNUSED_BYTES), storage);
        self.run_once(&repack::launch(&repack)?, &[Range::whole(&raw.0), Range::whole(&packed.0)]);
        Ok(packed)
    }

    fn record_dispatch(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        program: &GpuProgram,
        idx: usize,
        arena: &wgpu::Buffer,
        weights: &GpuWeights,
        inputs: &[(&str, &GpuTensor)],
    ) -> Result<()> {
        let Dispatch { launch, operands, name, .. } = &program.program.dispatches[idx];
        let mut ranges = Vec::with_capacity(operands.len());
        for (i, operand) in operands.iter().enumerate() {
            ranges.push(match operand {
                Operand::Slot(slot) => {
                    let (offset, n_bytes) = program.program.slots[*slot];
                    Range { buffer: arena, offset, n_bytes: Some(n_bytes) }
                }
                Operand::Input(wanted) => match inputs.iter().find(|(name, _)| name == wanted) {
                    Some((_, tensor)) => Range::whole(&tensor.buffer.0),
                    None => return self.fail(name, format!("the input {wanted} is not given")),
                },
                Operand::Weight(wanted) => match weights.0.get(wanted) {
                    Some(buffer) => Range::whole(&buffer.0),
                    None => return self.fail(name, format!("the weight {wanted} is not loaded")),
                },
                Operand::Unused => self.unused(i),
                Operand::UnusedWeight => {
                    Range { buffer: &self.unused_weight.0, offset: 0, n_bytes: Some(UNUSED_BYTES) }
                }
            });
        }
        debug_assert!(fits(launch.kernel, operands), "{name}: operands do not fit {}", launch.kernel.name);
        let params = Range { buffer: &program.params.0, offset: u64::from(program.offsets[idx]), n_bytes: None };
        self.record(pass, launch, params, &ranges);
        Ok(())
    }
}

/// Whether there is an operand for each binding.
fn fits(kernel: &Kernel, operands: &[Operand]) -> bool {
    kernel.bindings.len() == operands.len() + 1 && kernel.bindings[0] == Binding::Uniform
}

fn f16_bytes(values: &[f32]) -> Vec<u8> {
    let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    bytemuck::cast_slice(&halves).to_vec()
}

fn make_buffer(gpu: &Gpu, label: &str, n_bytes: u64, usage: wgpu::BufferUsages) -> Owned {
    Owned(gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: n_bytes.next_multiple_of(4).max(UNUSED_BYTES),
        usage,
        mapped_at_creation: false,
    }))
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
        format!("gpu ({}, {element})", self.gpu.caps.name)
    }

    async fn load(&self, specs: &[WeightSpec], weights: &Weights, progress: &mut dyn FnMut(u64)) -> Result<GpuWeights> {
        let scope = self.gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let mut placed = HashMap::with_capacity(specs.len());
        let mut n_bytes = 0;
        for spec in specs {
            let packed_bytes = 2 * spec.shape.iter().product::<usize>() as u64;
            self.check_limits(&spec.name, packed_bytes, self.gpu.caps.max_binding_bytes, "bindings")?;
            let values = weights.read_f32(&spec.name).await?;
            n_bytes += weights.get(&spec.name).map_or(0, |info| info.n_bytes);
            placed.insert(spec.name.clone(), self.place_weight(spec, &values)?);
            progress(n_bytes);
        }
        match scope.pop().await {
            Some(error) => self.fail("load", error.to_string()),
            None => self.check_faults("load").map(|()| GpuWeights(placed)),
        }
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

    fn prepare(&self, graph: Graph) -> Result<GpuProgram> {
        let program = Program::new(&graph, self.element)?;
        let caps = &self.gpu.caps;
        self.check_limits(&graph.name, program.arena_bytes, caps.max_buffer_bytes, "buffers")?;
        for (_, n_bytes) in &program.slots {
            self.check_limits(&graph.name, *n_bytes, caps.max_binding_bytes, "bindings")?;
        }
        let mut params = Vec::new();
        let mut offsets = Vec::with_capacity(program.dispatches.len());
        for dispatch in &program.dispatches {
            offsets.push(params.len() as u32);
            params.extend_from_slice(&dispatch.launch.params);
            params.resize(params.len().next_multiple_of(ALIGNMENT as usize), 0);
        }
        let params = self.upload_bytes("params", &params, wgpu::BufferUsages::UNIFORM);
        Ok(GpuProgram { program, params, offsets })
    }

    async fn run(
        &self,
        program: &GpuProgram,
        weights: &GpuWeights,
        inputs: &[(&str, &GpuTensor)],
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<GpuTensor>> {
        let Program { name, dispatches, inputs: wanted, outputs, arena_bytes, slots, .. } = &program.program;
        for (input, shape, _) in wanted {
            match inputs.iter().find(|(name, _)| name == input) {
                Some((_, tensor)) if tensor.shape == *shape => {}
                Some((_, tensor)) => {
                    let reason = format!("the input {input} has shape {:?} instead of {shape:?}", tensor.shape);
                    return self.fail(name, reason);
                }
                // Inputs that no operation reads need not be given.
                None => {}
            }
        }
        let scope = self.gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let arena = self.arena(*arena_bytes);
        let (mut idx, mut done) = (0, 0);
        while idx < dispatches.len() {
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                let mut submitted = 0;
                while idx < dispatches.len() && submitted < SUBMIT_FLOPS {
                    self.record_dispatch(&mut pass, program, idx, &arena.0, weights, inputs)?;
                    submitted += dispatches[idx].flops;
                    idx += 1;
                }
                done += submitted;
            }
            self.gpu.queue.submit([encoder.finish()]);
            if !progress(done) {
                return Err(Error::Cancelled);
            }
        }
        let mut results = Vec::with_capacity(outputs.len());
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (operand, shape) in outputs {
            let tensor = self.tensor(shape);
            let Operand::Slot(slot) = operand else { return self.fail(name, "a result is an input".into()) };
            let n_bytes = (shape.iter().product::<usize>() as u64 * self.element.bytes()).next_multiple_of(4);
            encoder.copy_buffer_to_buffer(&arena.0, slots[*slot].0, &tensor.buffer.0, 0, n_bytes);
            results.push(tensor);
        }
        self.gpu.queue.submit([encoder.finish()]);
        match scope.pop().await {
            Some(error) => self.fail(name, error.to_string()),
            None => self.check_faults(name).map(|()| results),
        }
    }

    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<GpuTensor> {
        let tensor = self.tensor(shape);
        let mut bytes = self.element_bytes(values);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.gpu.queue.write_buffer(&tensor.buffer.0, 0, &bytes);
        Ok(tensor)
    }

    fn upload_ids(&self, ids: &[u32], shape: &[usize]) -> Result<GpuTensor> {
        let usage = wgpu::BufferUsages::STORAGE;
        let buffer = Rc::new(self.upload_bytes("ids", bytemuck::cast_slice(ids), usage));
        Ok(GpuTensor { buffer, shape: shape.to_vec() })
    }

    async fn download(&self, tensor: &GpuTensor) -> Result<Vec<f32>> {
        self.check_faults("download")?;
        let n_values = tensor.shape.iter().product::<usize>();
        if self.element == Element::F32 {
            return readback::read_f32(&self.gpu, &tensor.buffer.0, n_values).await;
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let wide = make_buffer(&self.gpu, "wide", 4 * n_values as u64, usage);
        let launch = cast_to_f32::launch(n_values as u32, self.element)?;
        self.run_once(&launch, &[Range::whole(&tensor.buffer.0), Range::whole(&wide.0)]);
        readback::read_f32(&self.gpu, &wide.0, n_values).await
    }

    fn lincomb(&self, terms: &[(f64, &GpuTensor)], clamp: Option<(f64, f64)>) -> Result<GpuTensor> {
        let Some((_, first)) = terms.first() else { return self.fail("lincomb", "wants at least one term".into()) };
        if let Some((_, other)) = terms.iter().find(|(_, x)| x.shape != first.shape) {
            return self.fail("lincomb", format!("cannot add {:?} to {:?}", other.shape, first.shape));
        }
        // Two ranges of a dispatch must not be the same: factors of one tensor are added up first.
        let mut merged: Vec<(f32, &GpuTensor)> = Vec::new();
        for (factor, tensor) in terms {
            match merged.iter_mut().find(|(_, known)| Rc::ptr_eq(&known.buffer, &tensor.buffer)) {
                Some((sum, _)) => *sum += *factor as f32,
                None => merged.push((*factor as f32, tensor)),
            }
        }
        let coefficients: Vec<f32> = merged.iter().map(|(factor, _)| *factor).collect();
        let n_values = first.shape.iter().product::<usize>() as u32;
        let clamp = clamp.map(|(low, high)| (low as f32, high as f32));
        let launch = lincomb::launch(&coefficients, n_values, clamp, self.element)?;
        let out = self.tensor(&first.shape);
        let mut operands: Vec<Range> = merged.iter().map(|(_, tensor)| Range::whole(&tensor.buffer.0)).collect();
        operands.extend((operands.len()..lincomb::MAX_TERMS).map(|i| self.unused(i)));
        operands.push(Range::whole(&out.buffer.0));
        self.run_once(&launch, &operands);
        Ok(out)
    }

    fn blend(&self, mask: &GpuTensor, a: &GpuTensor, b: &GpuTensor) -> Result<GpuTensor> {
        let channels = a.shape.last().copied().unwrap_or(1) as u32;
        let pixels = a.shape.iter().product::<usize>() as u32 / channels.max(1);
        let launch = blend::launch(pixels, channels, self.element)?;
        let out = self.tensor(&a.shape);
        let operands = [mask, a, b, &out].map(|tensor| Range::whole(&tensor.buffer.0));
        self.run_once(&launch, &operands);
        Ok(out)
    }

    fn concat(&self, parts: &[&GpuTensor], axis: usize) -> Result<GpuTensor> {
        let Some(first) = parts.first() else { return self.fail("concat", "wants at least one tensor".into()) };
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let axis4 = axis + 4 - shape.len();
        let out = self.tensor(&shape);
        let mut start = 0;
        for part in parts {
            let size = four(&part.shape)?;
            let launch = copy::launch(&copy::Copy::into_part(size, four(&shape)?, axis4, start), self.element)?;
            self.run_once(&launch, &[Range::whole(&part.buffer.0), Range::whole(&out.buffer.0)]);
            start += size[axis4];
        }
        Ok(out)
    }

    fn slice(&self, tensor: &GpuTensor, axis: usize, start: usize, len: usize) -> Result<GpuTensor> {
        let mut shape = tensor.shape.clone();
        if start + len > shape[axis] {
            return self.fail("slice", format!("{start}..{} is outside axis {axis} of {shape:?}", start + len));
        }
        let axis4 = axis + 4 - shape.len();
        let slice = copy::Copy::slice(four(&tensor.shape)?, axis4, start as u32, len as u32);
        shape[axis] = len;
        let out = self.tensor(&shape);
        let launch = copy::launch(&slice, self.element)?;
        self.run_once(&launch, &[Range::whole(&tensor.buffer.0), Range::whole(&out.buffer.0)]);
        Ok(out)
    }
}
