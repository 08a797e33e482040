//! Times burn's wgpu backend on the card that Vulkan gives: README.md has the requests and the answers.

use std::any::Any;
use std::io::{self, BufRead, Write};
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use burn::tensor::activation::softmax;
use burn::tensor::module::{attention, conv2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{DType, Device, Distribution, Tensor};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, String>;

/// Samples of a case, of which the median is answered.
const N_SAMPLES: usize = 9;
/// What a sample lasts at least, in seconds: within it operations follow each other unwaited for, so that what is timed is the
/// card and not the way to it.
const SAMPLE_SECS: f64 = 0.03;

fn main() {
    let device = panic::catch_unwind(open).unwrap_or_else(|panic| Err(said(&*panic)));
    let device = match device {
        Ok((device, adapter)) => {
            let who = concat!("burn ", env!("CARGO_PKG_VERSION"), " wgpu/vulkan");
            let compiler = device.identity().map(|identity| identity.fingerprint);
            answer(&json!({ "who": who, "adapter": adapter, "compiler": compiler }));
            device
        }
        Err(error) => return answer(&json!({ "error": error })),
    };
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if line.trim().is_empty() {
            continue;
        }
        let timed = panic::catch_unwind(AssertUnwindSafe(|| case(&device, &line)));
        answer(&timed.unwrap_or_else(|panic| Err(said(&*panic))).unwrap_or_else(|error| json!({ "error": error })));
    }
}

fn answer(line: &Value) {
    println!("{line}");
    // Whoever asked may be gone; then so is the next request.
    let _ = io::stdout().flush();
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").to_owned()
}

/// The device and its adapter's name.
fn open() -> Result<(Device, String)> {
    let options = Device::wgpu_options().graphics_api(WgpuBackend::Vulkan);
    let (device, setup) = options.init_with_setup().map_err(|error| error.to_string())?;
    Ok((device, setup.adapter.get_info().name))
}

/// Answers one request.
fn case(device: &Device, line: &str) -> Result<Value> {
    let request: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let dtype = match request["dtype"].as_str() {
        Some("f16") => DType::F16,
        Some("f32") | None => DType::F32,
        Some(other) => return Err(format!("no such dtype: {other}")),
    };
    if let Some([m, n, k]) = sizes(&request, "matmul")? {
        let a = random([m, k], device, dtype);
        let b = random([k, n], device, dtype);
        let want = dot(&read(a.clone().slice([m - 1..m, 0..k]))?, &read(b.clone().slice([0..k, n - 1..n]))?);
        let op = || a.clone().matmul(b.clone());
        near(&read(op().slice([m - 1..m, n - 1..n]))?, want, k)?;
        return time(device, op);
    }
    if let Some([batch, height, width, c_in, c_out, kernel]) = sizes(&request, "conv")? {
        // Channels last in memory, as burn's convolutions leave their own result for the next one.
        let x = random([batch, height, width, c_in], device, dtype).permute([0, 3, 1, 2]);
        let weight = random([c_out, c_in, kernel, kernel], device, dtype);
        let padding = kernel / 2;
        let options = ConvOptions::new([1, 1], [padding; 2], [1, 1], 1);
        let (y, x_at) = (height / 2, width / 2);
        let (up, left) = (y.saturating_sub(padding), x_at.saturating_sub(padding));
        let (down, right) = ((y + padding + 1).min(height), (x_at + padding + 1).min(width));
        let patch = x.clone().slice([batch - 1..batch, 0..c_in, up..down, left..right]);
        let (top, lead) = (up + padding - y, left + padding - x_at);
        let of_weight = [c_out - 1..c_out, 0..c_in, top..top + down - up, lead..lead + right - left];
        let want = dot(&read(patch)?, &read(weight.clone().slice(of_weight))?);
        let op = || conv2d(x.clone(), weight.clone(), None, options.clone());
        near(
            &read(op().slice([batch - 1..batch, c_out - 1..c_out, y..y + 1, x_at..x_at + 1]))?,
            want,
            c_in * kernel * kernel,
        )?;
        return time(device, op);
    }
    if let Some([batch, heads, queries, keys, size]) = sizes(&request, "attention")? {
        let q = random([batch, heads, queries, size], device, dtype);
        let k = random([batch, heads, keys, size], device, dtype);
        let v = random([batch, heads, keys, size], device, dtype);
        let scale = (size as f32).sqrt().recip();
        let last = |tensor: &Tensor<4>, from: usize, to: usize| {
            read(tensor.clone().slice([batch - 1..batch, heads - 1..heads, from..to, 0..size]))
        };
        let (q_row, k_rows, v_rows) = (last(&q, queries - 1, queries)?, last(&k, 0, keys)?, last(&v, 0, keys)?);
        let weights: Vec<f32> = k_rows.chunks(size).map(|row| (dot(&q_row, row) * scale).exp()).collect();
        let v_last: Vec<f32> = v_rows.chunks(size).map(|row| row[size - 1]).collect();
        let want = dot(&weights, &v_last) / weights.iter().sum::<f32>();
        let by_parts = request["by"] == "parts";
        let op = || {
            let (q, k, v) = (q.clone(), k.clone(), v.clone());
            if by_parts {
                softmax(q.matmul(k.swap_dims(2, 3)) * scale, 3).matmul(v)
            } else {
                attention(q, k, v, None, None, Default::default())
            }
        };
        let at = [batch - 1..batch, heads - 1..heads, queries - 1..queries, size - 1..size];
        near(&read(op().slice(at))?, want, 1)?;
        return time(device, op);
    }
    Err("a request has matmul, conv or attention".to_owned())
}

/// The sizes under a request's key, if it has it.
fn sizes<const N: usize>(request: &Value, key: &str) -> Result<Option<[usize; N]>> {
    let Some(value) = request.get(key) else { return Ok(None) };
    let sizes: Option<Vec<usize>> =
        value.as_array().map(|sizes| sizes.iter().filter_map(|size| size.as_u64().map(|size| size as usize)).collect());
    let sizes = sizes.and_then(|sizes| <[usize; N]>::try_from(sizes).ok()).filter(|sizes| !sizes.contains(&0));
    sizes.map(Some).ok_or_else(|| format!("{key} takes {N} sizes"))
}

fn random<const D: usize>(shape: [usize; D], device: &Device, dtype: DType) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), (device, dtype))
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.try_into_data().map_err(|error| format!("{error:?}"))?;
    data.convert::<f32>().try_to_vec().map_err(|error| format!("{error:?}"))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Whether the one value read is what it should be, within what f16 rounds in a sum of `n` products.
fn near(got: &[f32], want: f32, n: usize) -> Result<()> {
    let bound = 0.01 * (n as f32).sqrt();
    match got {
        [got] if (got - want).abs() <= bound => Ok(()),
        _ => Err(format!("a wrong result: {got:?} and not {want}")),
    }
}

/// The median time of an operation that has already run once, and so been tuned.
fn time<const D: usize>(device: &Device, op: impl Fn() -> Tensor<D>) -> Result<Value> {
    let sample = |n_ops: usize| -> Result<f64> {
        device.sync().map_err(|error| format!("{error:?}"))?;
        let start = Instant::now();
        for _ in 0..n_ops {
            op();
        }
        device.sync().map_err(|error| format!("{error:?}"))?;
        Ok(start.elapsed().as_secs_f64() / n_ops as f64)
    };
    let once = sample(2)?.min(sample(2)?);
    let n_ops = (SAMPLE_SECS / once).ceil().clamp(1.0, 1000.0) as usize;
    sample(n_ops)?;
    let mut secs = (0..N_SAMPLES).map(|_| sample(n_ops)).collect::<Result<Vec<f64>>>()?;
    secs.sort_by(f64::total_cmp);
    Ok(json!({ "secs": secs[N_SAMPLES / 2], "least": secs[0], "ops": n_ops }))
}
