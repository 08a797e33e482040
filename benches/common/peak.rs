//! The most that a GPU is seen to do: multiply-adds in registers that no memory waits for, in f32, in f16 and with
//! cooperative matrices, and a copy that does nothing else.

use darkroom::Result;
use darkroom::run::gpu::{Gpu, readback};
use serde_json::{Value, json};
use wgpu::util::DeviceExt;

/// What the GPU was seen to do at most.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// 10⁹ floating-point operations a second in f32.
    pub gflops: f64,
    /// The same in f16; nothing without `shader-f16`.
    pub gflops_f16: Option<f64>,
    /// The same with cooperative matrices of f16 and sums in f32, as WGSL reaches them; nothing where kernels have none.
    pub gflops_matrix: Option<f64>,
    /// 10⁹ bytes a second, read and written.
    pub gbytes: f64,
}

#[allow(dead_code, reason = "each bench uses a part of it")]
impl Peak {
    pub fn to_json(self) -> Value {
        json!({ "gflops_f32": self.gflops, "gflops_f16": self.gflops_f16, "gflops_matrix": self.gflops_matrix,
                "gbytes": self.gbytes })
    }

    pub fn from_json(value: &Value) -> Option<Self> {
        let number = |name: &str| value[name].as_f64();
        Some(Peak {
            gflops: number("gflops_f32")?,
            gflops_f16: number("gflops_f16"),
            gflops_matrix: number("gflops_matrix"),
            gbytes: number("gbytes")?,
        })
    }
}

/// Work is repeated until it takes this long, so that what a submit costs by itself does not count.
const SECS: f64 = 0.03;

const N_ROUNDS: usize = 3;

/// Multiply-adds of one invocation, with a vector of four each.
const N_FMAS: f64 = 256.0 * 8.0;

const WGSL: &str = "
@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<T>>;

@compute @workgroup_size(256) fn multiply_add(@builtin(global_invocation_id) id: vec3u) {
    let a = x[id.x & 1023u];
    var b0 = a; var b1 = a + 1.0; var b2 = a + 2.0; var b3 = a + 3.0;
    var b4 = a + 4.0; var b5 = a + 5.0; var b6 = a + 6.0; var b7 = a + 7.0;
    for (var i = 0u; i < 256u; i++) {
        b0 = fma(a, b0, a); b1 = fma(a, b1, a); b2 = fma(a, b2, a); b3 = fma(a, b3, a);
        b4 = fma(a, b4, a); b5 = fma(a, b5, a); b6 = fma(a, b6, a); b7 = fma(a, b7, a);
    }
    y[id.x & 1023u] = b0 + b1 + b2 + b3 + b4 + b5 + b6 + b7;
}

@compute @workgroup_size(256) fn copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) n: vec3u) {
    let i = id.y * n.x * 256u + id.x;
    y[i] = x[i];
}";

/// Multiply-adds of cooperative matrices of one subgroup.
const N_MATRICES: f64 = 512.0 * 16.0;

/// Sixteen sums of each subgroup, as many as the products keep: four matrices on either side.
const MATRIX_WGSL: &str = "
@group(0) @binding(0) var<storage, read> x: array<vec4<f16>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
var<workgroup> factors: array<vec4<f16>, 512>;
var<workgroup> sums: array<vec4f, 1024>;

@compute @workgroup_size(128) fn multiply_matrices(@builtin(local_invocation_index) i: u32) {
    for (var at = i; at < 512u; at += 128u) { factors[at] = x[at]; }
    workgroupBarrier();
    let a0 = coopLoadT<A_T>(&factors[0], QUADS); let a1 = coopLoadT<A_T>(&factors[64], QUADS);
    let a2 = coopLoadT<A_T>(&factors[128], QUADS); let a3 = coopLoadT<A_T>(&factors[192], QUADS);
    let b0 = coopLoadT<B_T>(&factors[256], QUADS); let b1 = coopLoadT<B_T>(&factors[320], QUADS);
    let b2 = coopLoadT<B_T>(&factors[384], QUADS); let b3 = coopLoadT<B_T>(&factors[448], QUADS);
    var c00 = C_T(); var c01 = C_T(); var c02 = C_T(); var c03 = C_T();
    var c10 = C_T(); var c11 = C_T(); var c12 = C_T(); var c13 = C_T();
    var c20 = C_T(); var c21 = C_T(); var c22 = C_T(); var c23 = C_T();
    var c30 = C_T(); var c31 = C_T(); var c32 = C_T(); var c33 = C_T();
    for (var n = 0u; n < 512u; n++) {
        c00 = coopMultiplyAdd(a0, b0, c00); c01 = coopMultiplyAdd(a0, b1, c01);
        c02 = coopMultiplyAdd(a0, b2, c02); c03 = coopMultiplyAdd(a0, b3, c03);
        c10 = coopMultiplyAdd(a1, b0, c10); c11 = coopMultiplyAdd(a1, b1, c11);
        c12 = coopMultiplyAdd(a1, b2, c12); c13 = coopMultiplyAdd(a1, b3, c13);
        c20 = coopMultiplyAdd(a2, b0, c20); c21 = coopMultiplyAdd(a2, b1, c21);
        c22 = coopMultiplyAdd(a2, b2, c22); c23 = coopMultiplyAdd(a2, b3, c23);
        c30 = coopMultiplyAdd(a3, b0, c30); c31 = coopMultiplyAdd(a3, b1, c31);
        c32 = coopMultiplyAdd(a3, b2, c32); c33 = coopMultiplyAdd(a3, b3, c33);
    }
    coopStoreT(c00, &sums[0], QUADS); coopStoreT(c01, &sums[64], QUADS);
    coopStoreT(c02, &sums[128], QUADS); coopStoreT(c03, &sums[192], QUADS);
    coopStoreT(c10, &sums[256], QUADS); coopStoreT(c11, &sums[320], QUADS);
    coopStoreT(c12, &sums[384], QUADS); coopStoreT(c13, &sums[448], QUADS);
    coopStoreT(c20, &sums[512], QUADS); coopStoreT(c21, &sums[576], QUADS);
    coopStoreT(c22, &sums[640], QUADS); coopStoreT(c23, &sums[704], QUADS);
    coopStoreT(c30, &sums[768], QUADS); coopStoreT(c31, &sums[832], QUADS);
    coopStoreT(c32, &sums[896], QUADS); coopStoreT(c33, &sums[960], QUADS);
    workgroupBarrier();
    // What nobody reads would not be computed.
    var sum = vec4f();
    for (var at = i; at < 1024u; at += 128u) { sum += sums[at]; }
    y[i] = sum;
}";

/// Measures for a tenth of a second or two.
pub async fn peak(gpu: &Gpu) -> Result<Peak> {
    // More than any cache has; a processor that stands in for a GPU need not be asked for as much.
    let n_bytes: u64 = if gpu.caps.software { 64 << 20 } else { 256 << 20 };
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let zeros = vec![0u8; n_bytes as usize];
    let buffer = |label| {
        let contents = zeros.as_slice();
        gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: Some(label), contents, usage })
    };
    let (x, y) = (buffer("from"), buffer("to"));
    drop(zeros);
    let n_groups = if gpu.caps.software { 16 } else { 1 << 14 };
    let flops = f64::from(n_groups) * 256.0 * N_FMAS * 4.0 * 2.0;
    let wgsl = |element: &str| {
        let head = if element == "f16" { "enable f16;\n" } else { "" };
        format!("{head}alias T = {element};\n{WGSL}")
    };
    let gflops = flops / secs(gpu, &wgsl("f32"), "multiply_add", n_groups, [&x, &y]).await? / 1e9;
    let gflops_f16 = match gpu.caps.shader_f16 {
        true => Some(flops / secs(gpu, &wgsl("f16"), "multiply_add", n_groups, [&x, &y]).await? / 1e9),
        false => None,
    };
    let gflops_matrix = match gpu.caps.matrices {
        Some(matrices) => {
            let side = matrices.side;
            let head = format!(
                "enable f16;\nenable wgpu_cooperative_matrix;\nalias A_T = coop_mat{side}x{side}<f16, A>;\n\
                 alias B_T = coop_mat{side}x{side}<f16, B>;\nalias C_T = coop_mat{side}x{side}<f32, C>;\n\
                 const QUADS = {}u;\n",
                side / 4
            );
            let n_groups = 1 << 12;
            let subgroups = f64::from(n_groups) * 128.0 / f64::from(matrices.subgroup_size);
            let flops = subgroups * N_MATRICES * 2.0 * f64::from(side).powi(3);
            Some(flops / secs(gpu, &(head + MATRIX_WGSL), "multiply_matrices", n_groups, [&x, &y]).await? / 1e9)
        }
        None => None,
    };
    let copy_secs = secs(gpu, &wgsl("f32"), "copy", (n_bytes / 16 / 256) as u32, [&x, &y]).await?;
    x.destroy();
    y.destroy();
    Ok(Peak { gflops, gflops_f16, gflops_matrix, gbytes: 2.0 * n_bytes as f64 / copy_secs / 1e9 })
}

/// Seconds of one dispatch, of as many in one submit as take [`SECS`].
async fn secs(gpu: &Gpu, wgsl: &str, entry: &str, n_groups: u32, buffers: [&wgpu::Buffer; 2]) -> Result<f64> {
    let source = wgpu::ShaderSource::Wgsl(wgsl.into());
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(entry), source };
    // SAFETY: every index is masked or below the number of invocations, for which the buffers have room, and the loop ends.
    let module = unsafe { gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(entry),
        layout: None,
        module: &module,
        entry_point: Some(entry),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let entries = [(0, buffers[0]), (1, buffers[1])]
        .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(entry),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    });
    let [columns, rows] = if n_groups > 1 << 15 { [1 << 15, n_groups >> 15] } else { [n_groups, 1] };
    let (mut n, mut rounds, mut least) = (1u32, 0, f64::INFINITY);
    while rounds < N_ROUNDS {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            (0..n).for_each(|_| pass.dispatch_workgroups(columns, rows, 1));
        }
        let commands = encoder.finish();
        let start = std::time::Instant::now();
        gpu.queue.submit([commands]);
        readback::read_f32(gpu, buffers[1], 1).await?;
        let taken = start.elapsed().as_secs_f64();
        if taken < SECS && n < 1 << 12 {
            n *= 2;
            continue;
        }
        least = least.min(taken / f64::from(n));
        rounds += 1;
    }
    Ok(least)
}
