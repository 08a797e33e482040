//! Weights and inputs that are made as they are read, so that no file of gigabytes is needed.

use crate::error::Result;
use crate::graph::WeightSpec;
use crate::weights::{ByteSource, LocalFuture, header_of_f16};

/// A safetensors file of f16 weights that exists only while it is read: small numbers that differ from place to place.
#[derive(Debug)]
pub struct RandomWeights {
    header: Vec<u8>,
    len: u64,
}

impl RandomWeights {
    /// Tensors of these names and shapes.
    #[must_use]
    pub fn new(specs: &[WeightSpec]) -> Self {
        let (header, len) = header_of_f16(specs);
        RandomWeights { header, len }
    }
}

impl ByteSource for RandomWeights {
    fn name(&self) -> &str {
        "random weights"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let header = self.header.get(from..).unwrap_or_default();
            let mut bytes = header[..header.len().min(len)].to_vec();
            for i in bytes.len()..len {
                // Low bytes vary; high bytes are those of about ±0.01 to ±0.03.
                let place = offset + i as u64;
                let hash = ((place / 2) as u32).wrapping_mul(2_654_435_761) >> 8;
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
#[must_use]
pub fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}
