//! Weights and inputs that are made as they are read, so that no file of gigabytes is needed.

use darkroom::Result;
use darkroom::graph::WeightSpec;
use darkroom::weights::{ByteSource, LocalFuture};

/// A safetensors file of f16 weights that exists only while it is read: small numbers that differ from place to place.
pub struct RandomSource {
    header: Vec<u8>,
    len: u64,
}

impl RandomSource {
    /// Tensors of these names and shapes.
    pub fn new(specs: &[WeightSpec]) -> Self {
        let mut at = 0;
        let mut entries = serde_json::Map::new();
        for spec in specs {
            let end = at + 2 * spec.shape.iter().product::<usize>();
            let entry = serde_json::json!({ "dtype": "F16", "shape": spec.shape, "data_offsets": [at, end] });
            entries.insert(spec.name.clone(), entry);
            at = end;
        }
        let json = serde_json::Value::Object(entries).to_string().into_bytes();
        let header = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
        let len = header.len() as u64 + at as u64;
        RandomSource { header, len }
    }
}

impl ByteSource for RandomSource {
    fn name(&self) -> &str {
        "random weights"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let offset = offset as usize;
            let header = self.header.get(offset..).unwrap_or_default();
            let mut bytes = header[..header.len().min(len)].to_vec();
            for i in bytes.len()..len {
                // Low bytes vary; high bytes are those of about ±0.01 to ±0.03.
                let hash = ((offset + i) as u32 / 2).wrapping_mul(2_654_435_761) >> 8;
                bytes.push(if i % 2 == 0 {
                    hash as u8
                } else {
                    0x21 + (hash >> 8) as u8 % 6 + ((hash >> 16) as u8 & 0x80)
                });
            }
            Ok(bytes)
        })
    }
}

/// Numbers from -1 to 1 that differ from place to place.
pub fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}
