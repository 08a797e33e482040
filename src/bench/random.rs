//! Weights and inputs that are made as they are read, so that no file of gigabytes is needed.

use std::sync::OnceLock;

use crate::error::Result;
use crate::graph::WeightSpec;
use crate::weights::{ByteSource, LocalFuture, header_of_f16};

/// Values after which the weights repeat: a prime, so that no two rows of a matrix are the same. Copying them is some
/// hundred times faster than making them, which matters where a model has gigabytes.
const PERIOD: usize = 131_101;

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
            let mut bytes = Vec::with_capacity(len);
            bytes.extend_from_slice(&header[..header.len().min(len)]);
            let first = offset.saturating_sub(self.header.len() as u64);
            let mut at = (first % period().len() as u64) as usize;
            while bytes.len() < len {
                let part = &period()[at..];
                bytes.extend_from_slice(&part[..part.len().min(len - bytes.len())]);
                at = 0;
            }
            Ok(bytes)
        })
    }
}

/// One period of weights as f16: low bytes vary; high bytes are those of about ±0.01 to ±0.03.
fn period() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let value = |i: usize| {
            let hash = (i as u32).wrapping_mul(2_654_435_761) >> 8;
            [hash as u8, 0x21 + (hash >> 8) as u8 % 6 + ((hash >> 16) as u8 & 0x80)]
        };
        (0..PERIOD).flat_map(value).collect()
    })
}

/// Numbers from -1 to 1 that differ from place to place.
#[must_use]
pub fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_the_same_in_any_parts() {
        let weights = RandomWeights::new(&[WeightSpec { name: "w".into(), shape: vec![3, PERIOD] }]);
        let read = |from: usize, len| pollster::block_on(weights.read(from as u64, len)).unwrap();
        let whole = read(0, weights.len() as usize);
        assert_eq!(whole.len() as u64, weights.len());
        for (from, len) in [(0, 9), (1, 100), (weights.header.len() + 5, 2 * PERIOD + 3), (whole.len() - 3, 3)] {
            assert_eq!(read(from, len), whole[from..from + len], "{len} bytes from {from}");
        }
        let values =
            whole[weights.header.len()..].chunks_exact(2).map(|pair| half::f16::from_le_bytes([pair[0], pair[1]]));
        assert!(values.into_iter().all(|value| (0.005..0.07).contains(&value.to_f32().abs())));
    }
}
