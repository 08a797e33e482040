//! LoRAs that are added on the GPU: the weights that lie on the device afterwards, read back through identity matrices, are
//! those that the processor merges, in every type; without the LoRA they are the pristine ones, bit for bit; and it takes no
//! byte more.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/gpu.rs"]
mod gpu;

use std::collections::BTreeMap;
use std::rc::Rc;

use darkroom::graph::{Conv, Graph, GraphBuilder, Path};
use darkroom::run::Runner;
use darkroom::run::gpu::Element;
use darkroom::run::gpu::ledger::Counts;
use darkroom::run::gpu::runner::{GpuProgram, GpuRunner, GpuWeights};
use darkroom::weights::merged::{Applied, Change, Changes, Factors, Form};
use darkroom::weights::{
    Files, LocalFuture, MemorySource, Merged, MoreRows, Tensor, TensorSource, WeightType, Weights,
};
use gpu::gpu;
use half::{bf16, f16};
use pollster::block_on;

/// Outputs and inputs of the matrices, and of a convolution. Odd where a model may have odd sizes.
const LINEAR: [usize; 2] = [22, 45];
const SIDE_BY_SIDE: [usize; 2] = [12, 45];
const CONV: [usize; 4] = [72, 40, 3, 3];

/// The matrix, two that share their input and so lie in one buffer, and the convolution.
const NAMES: [&str; 4] = ["a.weight", "q.weight", "k.weight", "c.weight"];

fn shape(name: &str) -> &'static [usize] {
    match name {
        "a.weight" => &LINEAR,
        "c.weight" => &CONV,
        _ => &SIDE_BY_SIDE,
    }
}

/// Numbers of either sign below `most` that differ from place to place.
fn values(n: usize, salt: usize, most: f32) -> Vec<f32> {
    let value = |i: usize| ((i + salt * 977) as u32).wrapping_mul(2_654_435_761) >> 8;
    (0..n).map(|i| (value(i) as f32 / 8_388_608.0 - 1.0) * most).collect()
}

/// Tensors as a safetensors file in memory.
fn file(dtype: &str, tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Rc<dyn TensorSource> {
    let (mut header, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let first = bytes.len();
        for value in values {
            match dtype {
                "F16" => bytes.extend(f16::from_f32(*value).to_le_bytes()),
                "BF16" => bytes.extend(bf16::from_f32(*value).to_le_bytes()),
                _ => bytes.extend(value.to_le_bytes()),
            }
        }
        let info = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [first, bytes.len()] });
        header.insert(name.clone(), info);
    }
    let header = serde_json::Value::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes].concat();
    Rc::new(block_on(Files::open(vec![Box::new(MemorySource::new("memory.safetensors", file))])).unwrap())
}

fn base(dtype: &str, most: f32) -> Rc<dyn TensorSource> {
    let tensor = |(salt, name): (usize, &&str)| {
        let shape = shape(name).to_vec();
        ((*name).to_owned(), shape.clone(), values(shape.iter().product(), salt, most))
    };
    file(dtype, &NAMES.iter().enumerate().map(tensor).collect::<Vec<_>>())
}

/// Several LoRAs of these ranks on every weight.
fn changes(ranks: &[usize], strength: f32) -> Changes {
    let mut changes: Changes = BTreeMap::new();
    for (salt, &rank) in ranks.iter().enumerate() {
        let mut tensors = Vec::new();
        for (i, name) in NAMES.iter().enumerate() {
            let shape = shape(name);
            let mut down = shape.to_vec();
            down[0] = rank;
            let mut up = vec![1; shape.len()];
            (up[0], up[1]) = (shape[0], rank);
            for (end, shape, salt) in [("down", down, 20 + salt), ("up", up, 40 + salt)] {
                let n = shape.iter().product();
                tensors.push((format!("{name}.{end}"), shape, values(n, salt + 10 * i, 0.05)));
            }
        }
        let tensors = Weights::of(file("F16", &tensors));
        for name in NAMES {
            let (left, right) = (format!("{name}.up"), format!("{name}.down"));
            let form = Form::Product(Factors { left, left_transposed: false, right, core: None });
            let change = Change::new(&tensors, form, 0.5 + salt as f32, None, shape(name)).unwrap();
            let applied = Applied { change: Rc::new(change), strength: strength * if salt == 1 { -0.7 } else { 1.0 } };
            changes.entry(name.to_owned()).or_default().push(applied);
        }
    }
    changes
}

/// The same values without their factors, as every layer that merges by itself gives them.
struct WithoutFactors(Merged);

impl TensorSource for WithoutFactors {
    fn names(&self) -> Vec<&str> {
        self.0.names()
    }

    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.0.tensor(name)
    }

    fn read<'a>(&'a self, name: &'a str, offset: u64, len: usize) -> LocalFuture<'a, darkroom::Result<Vec<u8>>> {
        self.0.read(name, offset, len)
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

/// A graph whose outputs are its weights, given identity matrices and pictures of one pixel.
fn graph() -> Graph {
    let mut g = GraphBuilder::new("weights");
    let w = Path::root();
    let x = g.input("x", &[1, LINEAR[1], LINEAR[1]]);
    let a = g.linear(x, &w.pp("a"), LINEAR[0], false).unwrap();
    let y = g.input("y", &[1, LINEAR[1], LINEAR[1]]);
    let q = g.linear(y, &w.pp("q"), SIDE_BY_SIDE[0], false).unwrap();
    let k = g.linear(y, &w.pp("k"), SIDE_BY_SIDE[0], false).unwrap();
    let p = g.input("p", &[CONV[1], 3, 3, CONV[1]]);
    let conv = Conv { out_channels: CONV[0], kernel: 3, stride: 1, pad: [1; 4], upsample: None };
    let c = g.conv2d_without_bias(p, &w.pp("c"), conv).unwrap();
    for (name, id) in [("a", a), ("q", q), ("k", k), ("c", c)] {
        g.output(name, id);
    }
    g.finish()
}

/// A runner with a program that gives the weights of the graph.
struct Device {
    runner: GpuRunner,
    graphs: [Graph; 1],
    program: GpuProgram,
}

impl Device {
    fn open(weight_type: WeightType) -> Option<Self> {
        let runner = GpuRunner::new(gpu()?, Element::F32).unwrap().with_weights(weight_type);
        let program = block_on(runner.prepare(graph())).unwrap();
        Some(Device { runner, graphs: [graph()], program })
    }

    /// The weights on the device, with what loading them was.
    fn load(&self, weights: &Weights) -> (GpuWeights, Counts) {
        self.runner.reset_peak();
        let before = self.runner.counts();
        let loaded = block_on(self.runner.load(&self.graphs, weights, &mut |_| true)).unwrap();
        (loaded, self.runner.counts().since(&before))
    }

    fn replace(&self, loaded: &GpuWeights, weights: &Weights) -> darkroom::Result<()> {
        block_on(self.runner.replace(&self.graphs, weights, &NAMES.map(str::to_owned), loaded))
    }

    /// The values of all weights on the device, in some order.
    fn read(&self, loaded: &GpuWeights) -> Vec<f32> {
        let identity = |n: usize| (0..n * n).map(|i| f32::from(u8::from(i % n == i / n))).collect::<Vec<_>>();
        let n = CONV[1];
        let mut pixels = vec![0.0; n * 9 * n];
        (0..n).for_each(|channel| pixels[(channel * 9 + 4) * n + channel] = 1.0);
        let square = [1, LINEAR[1], LINEAR[1]];
        let x = self.runner.upload(&identity(LINEAR[1]), &square).unwrap();
        let p = self.runner.upload(&pixels, &[n, 3, 3, n]).unwrap();
        let inputs = [("x", &x), ("y", &x), ("p", &p)];
        let outputs = block_on(self.runner.run(&self.program, loaded, &inputs, &mut |_| true)).unwrap();
        outputs.iter().flat_map(|output| block_on(self.runner.download(output)).unwrap()).collect()
    }
}

/// The base with changes that are merged before they are read.
fn merged_before(base: Rc<dyn TensorSource>, changes: Changes) -> Weights {
    Weights::of(Rc::new(WithoutFactors(Merged::new(base, changes))))
}

/// Steps of f16 between two values.
fn steps(a: f32, b: f32) -> i32 {
    let ordered = |value: f32| {
        let bits = i32::from(f16::from_f32(value).to_bits() as i16);
        if bits < 0 { i32::from(i16::MIN) - bits } else { bits }
    };
    (ordered(a) - ordered(b)).abs()
}

/// A change of these ranks on weights of a type: on the device as on the processor, loaded as replaced, and gone again.
fn check(device: &Device, dtype: &str, ranks: &[usize], is_added_on_the_device: bool) {
    let weight_type = device.runner.weight_type();
    let what = format!("{ranks:?} on {dtype} in {}", weight_type.name());
    let (base, changes) = (base(dtype, 0.3), changes(ranks, 0.8));
    let plain = Weights::of(Rc::clone(&base));
    let (expected, before) = device.load(&merged_before(base, changes.clone()));
    let (merged, counts) = device.load(&plain.merged(changes.clone()));
    let (expected, got) = (device.read(&expected), device.read(&merged));
    for (got, expected) in got.iter().zip(&expected) {
        let is_close = match weight_type {
            WeightType::F16 => steps(*got, *expected) <= 1,
            WeightType::F32 => (got - expected).abs() <= 1e-6,
            // A step between two codes: half way, either is right.
            WeightType::Q8_0 => (got - expected).abs() <= 0.02,
            WeightType::Q4_0 => (got - expected).abs() <= 0.2,
        };
        assert!(is_close, "{what}: {got} and {expected}");
    }
    let n_unlike = got.iter().zip(&expected).filter(|(got, expected)| (*got - *expected).abs() > 1e-6).count();
    assert!(n_unlike * 50 <= got.len(), "{what}: {n_unlike} of {} differ", got.len());
    let dispatches = (before.dispatches, counts.dispatches);
    assert_eq!(dispatches.1 > dispatches.0, is_added_on_the_device, "{what}: {dispatches:?}");

    let (resident, _) = device.load(&plain);
    let pristine = device.read(&resident);
    assert_ne!(pristine, got, "{what}: it has no effect");
    device.replace(&resident, &plain.merged(changes)).unwrap();
    assert_eq!(device.read(&resident), got, "{what}: changed in its place");
    device.replace(&resident, &plain.merged(self::changes(ranks, 0.0))).unwrap();
    assert_eq!(device.read(&resident), pristine, "{what}: without strength");
    device.replace(&resident, &plain).unwrap();
    assert_eq!(device.read(&resident), pristine, "{what}: taken away");
}

#[test]
fn sums_on_the_device_are_those_of_the_processor() {
    for weight_type in [WeightType::F16, WeightType::F32, WeightType::Q8_0, WeightType::Q4_0] {
        let Some(device) = Device::open(weight_type) else { return };
        for dtype in ["F16", "F32", "BF16"] {
            for ranks in [&[1][..], &[3], &[8], &[4, 7, 2], &[33]] {
                check(&device, dtype, ranks, true);
            }
            // Factors that are too large for the room of a slice.
            check(&device, dtype, &[1200], false);
        }
    }
}

#[test]
fn terms_take_no_memory_of_their_own() {
    for weight_type in [WeightType::F16, WeightType::Q8_0] {
        let Some(device) = Device::open(weight_type) else { return };
        let plain = Weights::of(base("F16", 0.3));
        let (loaded, planned) = device.load(&plain);
        drop(loaded);
        let (loaded, with_terms) = device.load(&plain.merged(changes(&[4, 8], 1.0)));
        assert_eq!((with_terms.peak_bytes, with_terms.live_bytes), (planned.peak_bytes, planned.live_bytes));
        device.replace(&loaded, &plain.merged(changes(&[4, 8], 0.5))).unwrap();
        assert_eq!(device.runner.counts().peak_bytes, planned.peak_bytes);
        drop(loaded);
        // Base values go up as they are stored, and the factors with them.
        let (_, with_sums) = device.load(&merged_before(base("F16", 0.3), changes(&[4, 8], 1.0)));
        let [without, with_terms, with_sums] = [planned, with_terms, with_sums].map(|counts| counts.uploaded_bytes);
        let most = if weight_type == WeightType::F16 { 2 * without } else { with_sums };
        assert!(with_terms > without && with_terms < most, "{without}, {with_terms} and {with_sums} bytes uploaded");
    }
}

#[test]
fn sums_beyond_16_bits_are_refused_by_name() {
    let plain = Weights::of(base("F16", 65_000.0));
    let Some(device) = Device::open(WeightType::F16) else { return };
    let (loaded, _) = device.load(&plain);
    let pristine = device.read(&loaded);
    // Far from the largest f16, where the bound is too careful: the processor merges.
    device.replace(&loaded, &plain.merged(changes(&[4], 100.0))).unwrap();
    assert_ne!(device.read(&loaded), pristine);
    let refused = device.replace(&loaded, &plain.merged(changes(&[4], 1e6))).unwrap_err().to_string();
    assert!(refused.contains(".weight") && refused.contains("--weights f32"), "{refused}");
    let device = Device::open(WeightType::F32).unwrap();
    let (loaded, _) = device.load(&plain.merged(changes(&[4], 1e6)));
    assert!(device.read(&loaded).iter().any(|value| value.abs() > 65_504.0));
}

/// Rows that are added to a table are summed where they are read.
#[test]
fn layers_without_factors_say_so() {
    let merged: Rc<dyn TensorSource> = Rc::new(Merged::new(base("F16", 0.3), changes(&[2, 3], 1.0)));
    assert_eq!(merged.low_rank("a.weight").map(|low_rank| low_rank.rank()), Some(5));
    assert!(merged.low_rank("b.weight").is_none());
    let table = MoreRows::new(merged, "q.weight", SIDE_BY_SIDE[0] + 1, vec![0.0; SIDE_BY_SIDE[1]].into());
    assert!(table.low_rank("q.weight").is_none(), "its rows are more than the changes know");
}
