//! Runs launches as the planner does: every activation is a range of one buffer, every weight a range of another, and all
//! dispatches go into one pass.
//!
//! What no kernel may write is checked: the gaps between the ranges, and the inputs.

use std::collections::HashMap;

use darkroom::run::gpu::kernel::{Bind, Binding, Launch, PipelineKey, UNUSED_BYTES, pipeline};
use darkroom::run::gpu::{Element, Gpu, readback};
use half::f16;
use wgpu::util::DeviceExt;

/// Where ranges of storage buffers may begin.
const ALIGNMENT: usize = 256;
/// Bytes that nobody wrote: a NaN in f32 and in f16.
const UNTOUCHED: u8 = 0xff;

/// A range of the arena or of the weights.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    start: usize,
    n_bytes: usize,
    in_weights: bool,
    /// Whether launches may write it.
    writable: bool,
}

/// A device with the pipelines that were compiled so far.
pub struct Rig<'a> {
    /// The device.
    pub gpu: &'a Gpu,
    pipelines: HashMap<PipelineKey, (wgpu::BindGroupLayout, wgpu::ComputePipeline)>,
}

/// Operands and launches of one case.
#[derive(Default)]
pub struct Bench {
    arena: Vec<u8>,
    weights: Vec<u8>,
    operands: Vec<Operand>,
    launches: Vec<(Launch, Vec<Operand>)>,
}

/// What the arena holds after the launches.
pub struct Results {
    bytes: Vec<u8>,
}

impl Bench {
    fn place(&mut self, bytes: &[u8], in_weights: bool, writable: bool) -> Operand {
        let room = if in_weights { &mut self.weights } else { &mut self.arena };
        let start = room.len();
        // Whole words, and enough for any binding.
        let n_bytes = bytes.len().next_multiple_of(4).max(UNUSED_BYTES as usize);
        room.extend_from_slice(bytes);
        // A gap behind every range, so that a write beyond it is seen.
        room.resize((start + n_bytes + 1).next_multiple_of(ALIGNMENT), UNTOUCHED);
        let operand = Operand { start, n_bytes, in_weights, writable };
        self.operands.push(operand);
        operand
    }

    /// An input of activations.
    pub fn elements(&mut self, element: Element, values: &[f32]) -> Operand {
        self.place(&element_bytes(element, values), false, false)
    }

    /// An input that is f32 whatever the element.
    pub fn floats(&mut self, values: &[f32]) -> Operand {
        self.place(bytemuck::cast_slice(values), false, false)
    }

    /// f32 values that launches change.
    pub fn changed_floats(&mut self, values: &[f32]) -> Operand {
        self.place(bytemuck::cast_slice(values), false, true)
    }

    /// An input of words.
    pub fn words(&mut self, values: &[u32]) -> Operand {
        self.place(bytemuck::cast_slice(values), false, false)
    }

    /// A count that launches add to, from zero.
    pub fn counter(&mut self) -> Operand {
        self.place(bytemuck::bytes_of(&0u32), false, true)
    }

    /// A weight in f16.
    pub fn half_weight(&mut self, values: &[f16]) -> Operand {
        self.place(bytemuck::cast_slice(values), true, false)
    }

    /// A weight in blocks.
    pub fn byte_weight(&mut self, bytes: &[u8]) -> Operand {
        self.place(bytes, true, false)
    }

    /// A weight that is packed in words of some type.
    pub fn weight_words(&mut self, words: &[u32]) -> Operand {
        self.place(bytemuck::cast_slice(words), true, false)
    }

    /// A weight in f32.
    pub fn float_weight(&mut self, values: &[f32]) -> Operand {
        self.place(bytemuck::cast_slice(values), true, false)
    }

    /// Room for a result of activations.
    pub fn room(&mut self, element: Element, n_values: usize) -> Operand {
        self.room_bytes(element.bytes() as usize * n_values)
    }

    /// Room for a result.
    pub fn room_bytes(&mut self, n_bytes: usize) -> Operand {
        self.place(&vec![UNTOUCHED; n_bytes], false, true)
    }

    /// What a binding without use is filled with.
    fn unused(&mut self) -> Operand {
        self.place(&[UNTOUCHED; UNUSED_BYTES as usize], false, false)
    }

    /// What an unused binding of weights is filled with.
    fn unused_weight(&mut self) -> Operand {
        self.place(&[UNTOUCHED; UNUSED_BYTES as usize], true, false)
    }

    /// A launch with what it is bound to. What it does not use is filled.
    pub fn launch<B: Bind<Operand = Operand>>(&mut self, launch: Launch, bindings: B) {
        assert_eq!(launch.kernel.bindings, B::BINDINGS, "{} is bound as another kernel", launch.kernel.name);
        let mut operands = Vec::new();
        for ((name, binding), operand) in launch.kernel.bindings[1..].iter().zip(bindings.list()) {
            let is_weight = *binding == Binding::Read;
            let operand = operand.unwrap_or_else(|| if is_weight { self.unused_weight() } else { self.unused() });
            assert_eq!(operand.in_weights, is_weight, "{}: {name} is {operand:?}", launch.kernel.name);
            operands.push(operand);
        }
        self.launches.push((launch, operands));
    }
}

fn element_bytes(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F32 => bytemuck::cast_slice(values).to_vec(),
        Element::F16 => {
            let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
            bytemuck::cast_slice(&halves).to_vec()
        }
    }
}

impl<'a> Rig<'a> {
    /// Compiles nothing yet.
    pub fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, pipelines: HashMap::new() }
    }

    /// Runs the launches of `bench` in order and brings the arena back. Panics when the GPU refuses, or a launch wrote
    /// where it must not.
    pub async fn run(&mut self, name: &str, bench: Bench) -> Results {
        let Self { gpu, pipelines } = self;
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = |label, contents: &[u8], usage| {
            // A buffer cannot be empty.
            let contents = if contents.is_empty() { &[0; ALIGNMENT] } else { contents };
            let descriptor = wgpu::util::BufferInitDescriptor { label: Some(label), contents, usage };
            gpu.device.create_buffer_init(&descriptor)
        };
        let storage = wgpu::BufferUsages::STORAGE;
        let arena = buffer("arena", &bench.arena, storage | wgpu::BufferUsages::COPY_SRC);
        let weights = buffer("weights", &bench.weights, storage);
        let mut params = Vec::new();
        let mut offsets = Vec::new();
        for (launch, _) in &bench.launches {
            offsets.push(params.len() as u32);
            params.extend_from_slice(&launch.params);
            params.resize(params.len().next_multiple_of(ALIGNMENT), 0);
        }
        let uniforms = buffer("params", &params, wgpu::BufferUsages::UNIFORM);

        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(name) });
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for ((launch, operands), offset) in bench.launches.iter().zip(offsets) {
                let (layout, pipeline) = pipelines.entry(launch.pipeline_key()).or_insert_with(|| {
                    let layout = pipeline::bind_group_layout(&gpu.device, launch.kernel);
                    let pipeline = pipeline::compile(&gpu.device, &layout, launch);
                    (layout, pipeline)
                });
                let range = |buffer, offset: usize, n_bytes: usize| {
                    let size = std::num::NonZeroU64::new(n_bytes as u64);
                    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: offset as u64, size })
                };
                let resources = operands.iter().map(|operand| {
                    range(if operand.in_weights { &weights } else { &arena }, operand.start, operand.n_bytes)
                });
                let entries: Vec<_> = (0..)
                    .zip(std::iter::once(range(&uniforms, 0, launch.params.len())).chain(resources))
                    .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
                    .collect();
                let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(launch.kernel.name),
                    layout,
                    entries: &entries,
                });
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, &group, &[offset]);
                let [x, y, z] = launch.workgroups;
                pass.dispatch_workgroups(x, y, z);
            }
        }
        gpu.queue.submit([encoder.finish()]);
        if let Some(error) = scope.pop().await {
            panic!("{name}: {error}");
        }
        let words =
            readback::read_f32(gpu, &arena, bench.arena.len() / 4).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        for buffer in [arena, weights, uniforms] {
            buffer.destroy();
        }
        let bytes = bytemuck::cast_slice(&words).to_vec();
        check_untouched(name, &bench, &bytes);
        Results { bytes }
    }
}

fn check_untouched(name: &str, bench: &Bench, after: &[u8]) {
    let mut written = vec![false; after.len()];
    for operand in bench.operands.iter().filter(|operand| operand.writable) {
        written[operand.start..operand.start + operand.n_bytes].fill(true);
    }
    let differs = |i: &usize| !written[*i] && bench.arena[*i] != after[*i];
    if let Some(i) = (0..after.len()).find(differs) {
        let near = bench.operands.iter().rfind(|operand| !operand.in_weights && operand.start <= i);
        panic!("{name}: byte {i} of the arena was written, which is in or behind {near:?}");
    }
}

impl Results {
    /// Whether a word is what room for results is filled with.
    pub fn is_untouched(word: u32) -> bool {
        word.to_le_bytes() == [UNTOUCHED; 4]
    }

    fn of<T: bytemuck::AnyBitPattern>(&self, operand: Operand, n_values: usize) -> Vec<T> {
        let n_bytes = n_values * size_of::<T>();
        assert!(n_bytes <= operand.n_bytes);
        bytemuck::pod_collect_to_vec::<u8, u8>(&self.bytes[operand.start..operand.start + n_bytes])
            .chunks_exact(size_of::<T>())
            .map(bytemuck::pod_read_unaligned)
            .collect()
    }

    /// Activations.
    pub fn elements(&self, element: Element, operand: Operand, n_values: usize) -> Vec<f32> {
        match element {
            Element::F32 => self.of(operand, n_values),
            Element::F16 => self.of::<f16>(operand, n_values).into_iter().map(f16::to_f32).collect(),
        }
    }

    /// f32 whatever the element.
    pub fn floats(&self, operand: Operand, n_values: usize) -> Vec<f32> {
        self.of(operand, n_values)
    }

    /// f16.
    pub fn halves(&self, operand: Operand, n_values: usize) -> Vec<f16> {
        self.of(operand, n_values)
    }

    /// Words.
    pub fn words(&self, operand: Operand, n_values: usize) -> Vec<u32> {
        self.of(operand, n_values)
    }
}
