//! Whether a device does what kernels count on and nothing promises, tried when it is opened: which invocations share a
//! subgroup, and whether cooperative matrices compute what the plain kernels do.
//!
//! wgpu calls the latter experimental, and there is a reason to look: for kernels with them naga 30 declares Vulkan's memory
//! model, but marks no access to workgroup memory as shared and no barrier as making anything visible
//! (`write_control_barrier` in its SPIR-V writer). By the letter a compiler may then keep what one invocation stores from the
//! others. On an H200 arrays came through in every test, and a single flag did not, so that kernels here pass arrays alone;
//! whether that holds on another driver shows this trial.

use wgpu::util::DeviceExt;

use super::kernel::{Bind, Element, Launch, Machine, Multiply, UNUSED_BYTES, pipeline};
use super::kernels::attention::{self, Attention};
use super::kernels::products::{self, Epilogue, Gemm, Source, TILES, Tile, gemm};
use super::kernels::subgroups::shuffle;
use super::{Gpu, readback};
use crate::error::{Error, Result};

/// How far apart results may be, as a part of the largest: both round to f16, and weights of an attention are rounded too.
const TOLERANCE: f32 = 4e-3;

/// Queries, keys, heads and columns of the attentions that are tried.
const ATTENTIONS: [[u32; 4]; 2] = [[1, 1, 2, 8], [40, 70, 2, 40]];

/// Whether all that is tried agrees. True where the adapter has no cooperative matrices that kernels use.
///
/// # Errors
/// When the device fails.
pub async fn matrices_hold(gpu: &Gpu) -> Result<bool> {
    let (matrices, plain) = (gpu.caps.machine(Element::F16), Machine::plain(Element::F16));
    if matrices.matrices.is_none() {
        return Ok(true);
    }
    let picture = Source {
        in_size: [6, 5],
        out_size: [6, 5],
        channels: [24, 16],
        kernel: 3,
        pad: [1, 1],
        ..Source::rows(2, 1, 0)
    };
    let gemm = Gemm::new(picture, 72, Epilogue { bias: true, residual: true, ..Epilogue::default() });
    let (tile, _) = gemm.default_plan(&plain)?;
    let expected = product(gpu, &gemm, &plain, tile).await?;
    // Two tiles stand for all, because compiling them takes the better part of a second where nothing is cached yet.
    let mut tiles = TILES.iter().filter(|tile| tile.is_of_matrices() && gemm.allows(**tile, 1, &matrices));
    for &tile in tiles.next().into_iter().chain(tiles.next_back()) {
        if !agree(&product(gpu, &gemm, &matrices, tile).await?, &expected) {
            return Ok(false);
        }
    }
    for [queries, keys, heads, head_size] in ATTENTIONS {
        let attention = Attention::dense(1, queries, keys, heads, head_size, 0.2, false);
        let expected = attended(gpu, &attention, &plain).await?;
        if !agree(&attended(gpu, &attention, &matrices).await?, &expected) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Workgroups in which kernels use subgroup operations: those of a layer norm and of attentions.
const SUBGROUP_THREADS: [[u32; 2]; 3] = [[128, 1], [8, 16], [16, 16]];

/// Whether invocations that follow one another in a workgroup are in one subgroup of at least `least` and hear each other, which
/// no specification promises.
///
/// # Errors
/// When the device fails.
pub async fn subgroups_hold(gpu: &Gpu, least: u32) -> Result<bool> {
    for threads in SUBGROUP_THREADS {
        let out = vec![0xff; (threads[0] * threads[1]) as usize * size_of::<f32>()];
        let told = run_f32(gpu, &shuffle::launch(threads, least), shuffle::Bindings { out }).await?;
        if told.iter().any(|fails| *fails != 0.0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether results are close. A NaN is not.
fn agree(got: &[f32], expected: &[f32]) -> bool {
    let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() <= TOLERANCE * largest)
}

async fn product(gpu: &Gpu, gemm: &Gemm, machine: &Machine, tile: Tile) -> Result<Vec<f32>> {
    let Source { batch, in_size, channels, .. } = gemm.source;
    let pixels = (batch * in_size[0] * in_size[1]) as usize;
    let n_out = gemm.m()? as usize * gemm.n_stored() as usize;
    let launch = gemm::launch(gemm, machine, tile, 1)?;
    let bindings = products::Bindings {
        source_0: halves(1, pixels * channels[0] as usize),
        source_1: Some(halves(2, pixels * channels[1] as usize)),
        weight: halves(3, (gemm.k() * gemm.n.next_multiple_of(4)) as usize),
        bias: Some(floats(gemm.n as usize)),
        time_embedding: None,
        residual: Some(halves(4, n_out)),
        out: Some(vec![0; n_out * size_of::<half::f16>()]),
        partial_sums: None,
    };
    run_f16(gpu, &launch, bindings).await
}

async fn attended(gpu: &Gpu, attention: &Attention, machine: &Machine) -> Result<Vec<f32>> {
    let Attention { batch, queries, keys, heads, head_size, .. } = *attention;
    let rows = |n: u32| (batch * n * heads * head_size) as usize;
    let bindings = attention::Bindings {
        q: halves(5, rows(queries)),
        k: Some(halves(6, rows(keys))),
        v: Some(halves(7, rows(keys))),
        out: vec![0; rows(queries) * size_of::<half::f16>()],
    };
    run_f16(gpu, &attention::launch(attention, machine, Multiply::F32)?, bindings).await
}

/// One launch; the operand `out` as it is afterwards.
async fn run_f32<B: Bind<Operand = Vec<u8>>>(gpu: &Gpu, launch: &Launch, bindings: B) -> Result<Vec<f32>> {
    Ok(bytemuck::pod_collect_to_vec(&run(gpu, launch, bindings).await?))
}

/// The same for an operand in f16.
async fn run_f16<B: Bind<Operand = Vec<u8>>>(gpu: &Gpu, launch: &Launch, bindings: B) -> Result<Vec<f32>> {
    let halves: Vec<half::f16> = bytemuck::pod_collect_to_vec(&run(gpu, launch, bindings).await?);
    Ok(halves.into_iter().map(half::f16::to_f32).collect())
}

/// The bytes of the operand `out` after one launch.
async fn run<B: Bind<Operand = Vec<u8>>>(gpu: &Gpu, launch: &Launch, bindings: B) -> Result<Vec<u8>> {
    debug_assert_eq!(launch.kernel.bindings, B::BINDINGS);
    let device = &gpu.device;
    let operands: Vec<Vec<u8>> = bindings.list().into_iter().map(Option::unwrap_or_default).collect();
    // The parameters are no operand.
    let out = B::BINDINGS.iter().position(|(name, _)| *name == "out").map_or(0, |binding| binding - 1);
    // The last is asked first.
    let scopes =
        [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal].map(|filter| device.push_error_scope(filter));
    let buffer = |contents: &[u8], usage| {
        let mut contents = contents.to_vec();
        contents.resize(contents.len().next_multiple_of(16).max(UNUSED_BYTES as usize), 0);
        let descriptor = wgpu::util::BufferInitDescriptor { label: Some("proof"), contents: &contents, usage };
        device.create_buffer_init(&descriptor)
    };
    let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let params = buffer(&launch.params, wgpu::BufferUsages::UNIFORM);
    let buffers: Vec<wgpu::Buffer> = operands.iter().map(|contents| buffer(contents, storage)).collect();
    let layout = pipeline::bind_group_layout(device, launch.kernel);
    let compiled = pipeline::compile(device, &layout, launch);
    let entries: Vec<_> = (0..)
        .zip([&params].into_iter().chain(&buffers))
        .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    let descriptor = wgpu::BindGroupDescriptor { label: Some("proof"), layout: &layout, entries: &entries };
    let group = device.create_bind_group(&descriptor);
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&compiled);
        pass.set_bind_group(0, &group, &[0]);
        let [x, y, z] = launch.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
    gpu.queue.submit([encoder.finish()]);
    for scope in scopes.into_iter().rev() {
        if let Some(error) = scope.pop().await {
            let device = gpu.caps.name.clone();
            return Err(Error::Run { node: launch.kernel.name.into(), device, reason: error.to_string() });
        }
    }
    let n_bytes = operands[out].len();
    let mut bytes = readback::read_bytes(gpu, &buffers[out], 0, n_bytes.next_multiple_of(4) as u64).await?;
    bytes.truncate(n_bytes);
    params.destroy();
    buffers.iter().for_each(wgpu::Buffer::destroy);
    Ok(bytes)
}

/// A fixed scatter in [-1, 1); each `seed` has its own.
fn scatter(seed: u32, n: usize) -> impl Iterator<Item = f32> {
    let mut state = 0x9E37_79B9_u32.wrapping_mul(seed);
    (0..n).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

fn halves(seed: u32, n: usize) -> Vec<u8> {
    scatter(seed, n).flat_map(|value| half::f16::from_f32(value).to_le_bytes()).collect()
}

fn floats(n: usize) -> Vec<u8> {
    scatter(8, n).flat_map(f32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::agree;

    #[test]
    fn what_differs_or_is_not_a_number_does_not_agree() {
        assert!(agree(&[1.0, -2.0], &[1.001, -2.0]));
        assert!(!agree(&[1.0, -2.0], &[1.1, -2.0]));
        assert!(!agree(&[f32::NAN, -2.0], &[1.0, -2.0]));
        assert!(!agree(&[0.0, 0.0], &[0.0, -2.0]));
        assert!(!agree(&[], &[1.0]));
    }
}
