//! Reading committed numbers and comparing with them.

#![allow(dead_code, reason = "each test binary that includes this module uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;

#[path = "places.rs"]
pub mod places;

/// A safetensors file of reference numbers, all f32.
pub struct Fixture(BTreeMap<String, (Vec<f32>, Vec<usize>)>);

impl Fixture {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            (name, (values, view.shape().to_vec()))
        });
        Fixture(tensors.collect())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Values and shape as they are in the file.
    pub fn values(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        self.0.get(name).unwrap_or_else(|| panic!("the fixture has no {name}")).clone()
    }

    /// Values with pictures turned channels-last; `None` when there are none under the name.
    pub fn get_nhwc(&self, name: &str) -> Option<Vec<f32>> {
        let (values, shape) = self.0.get(name)?;
        Some(if shape.len() == 4 { nchw_to_nhwc(values, shape) } else { values.clone() })
    }

    /// A picture, channels-last, with its shape.
    pub fn picture(&self, name: &str) -> (Vec<f32>, [usize; 4]) {
        let (values, shape) = self.values(name);
        (nchw_to_nhwc(&values, &shape), [shape[0], shape[2], shape[3], shape[1]])
    }
}

pub fn nchw_to_nhwc(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let &[batch, channels, height, width] = shape else { panic!("not a picture: {shape:?}") };
    let mut out = Vec::with_capacity(values.len());
    for b in 0..batch {
        for pixel in 0..height * width {
            out.extend((0..channels).map(|c| values[(b * channels + c) * height * width + pixel]));
        }
    }
    out
}

/// Panics with the place and the numbers when a value is further off than `tolerance` times the largest expected.
pub fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    let scale = expected.iter().fold(0.0f32, |max, x| max.max(x.abs())).max(1e-6);
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs() / scale;
        assert!(
            error <= tolerance,
            "{what} differs first at value {i}: got {got}, expected {expected} (off by {error:.2e} of the largest, allowed {tolerance:.0e})"
        );
    }
}
