//! Tensors whose stored numbers are not the weights themselves, as plain numbers: 8-bit floats with a scale beside them, and
//! GGUF's blocks of quantised numbers. Both are read as f32, a piece at a time.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::convert;
use super::dtype::Dtype;
use super::gguf::{self, BlockType};
use super::source::LocalFuture;
use super::tensors::{Tensor, TensorSource, no_blocks};
use crate::error::words::counted;
use crate::error::{Error, Result};

/// What the scale of `x.weight` is called: `x.scale_weight`, one number.
const SCALE: &str = "scale_weight";

/// The scale of what goes into the layer, which only matters to 8-bit arithmetic.
const INPUT_SCALE: &str = "scale_input";

/// What marks a file of scaled 8-bit floats.
const MARKER: &str = "scaled_fp8";

/// How integer weights with scales are marked.
const REFUSED: [&str; 2] = [".weight_scale", ".comfy_quant"];

/// See the module.
pub struct Decoded {
    base: Rc<dyn TensorSource>,
    scales: BTreeMap<String, f32>,
}

impl Decoded {
    /// Reads the scales.
    ///
    /// # Errors
    /// [`Error::Safetensors`] for a scale that is not one number, and for kinds of quantised weights that are not read.
    pub async fn open(base: Rc<dyn TensorSource>) -> Result<Self> {
        let mut scales = BTreeMap::new();
        for name in base.names() {
            let Some(tensor) = base.tensor(name) else { continue };
            let broken = |reason| Error::Safetensors { file: tensor.file.to_owned(), reason };
            if REFUSED.iter().any(|suffix| name.ends_with(suffix)) {
                let reason = format!(
                    "{name} belongs to weights in a quantised form that is not read: take the f16, bf16, fp8 or GGUF file of \
                     this model"
                );
                return Err(broken(reason));
            }
            let Some(layer) = name.strip_suffix(SCALE) else { continue };
            let n_bytes = tensor.dtype.n_bytes().filter(|_| tensor.shape.iter().product::<usize>() == 1);
            let Some(n_bytes) = n_bytes else {
                return Err(broken(format!("{name} of shape {:?} is not one number", tensor.shape)));
            };
            let bytes = base.read(name, 0, n_bytes).await?;
            let scale = convert::f32_from_le_bytes(tensor.dtype, &bytes).and_then(|values| values.first().copied());
            scales.insert(format!("{layer}weight"), scale.unwrap_or(1.0));
        }
        Ok(Decoded { base, scales })
    }

    /// Numbers of a quantised tensor: `len` bytes of f32 from byte `offset` on, out of the blocks that hold them.
    async fn read_blocks(&self, tensor: Tensor<'_>, kind: BlockType, offset: u64, len: usize) -> Result<Vec<u8>> {
        let width = size_of::<f32>();
        let (first, n) = (offset / width as u64, len / width);
        let broken = |reason| Error::Gguf { file: tensor.file.to_owned(), reason };
        let n_values = tensor.shape.iter().product::<usize>() as u64;
        let Some((bytes, skip)) = kind.bytes_of(first, n as u64).filter(|_| first + n as u64 <= n_values) else {
            return Err(broken(format!("{} from {offset} on leave tensor {}", counted(len, "byte"), tensor.name)));
        };
        let stored = self.base.read(tensor.name, bytes.start, (bytes.end - bytes.start) as usize).await?;
        let mut values = Vec::new();
        gguf::dequantize(kind, &stored, &mut values)
            .ok_or_else(|| broken(format!("tensor {} has blocks that are cut off", tensor.name)))?;
        let wanted =
            values.get(skip..skip + n).ok_or_else(|| broken(format!("tensor {} is too short", tensor.name)))?;
        Ok(bytemuck::cast_slice(wanted).to_vec())
    }

    /// Whether a name is no weight, but belongs to the form that weights are stored in.
    fn is_bookkeeping(name: &str) -> bool {
        name == MARKER || name.ends_with(".scaled_fp8") || [SCALE, INPUT_SCALE].iter().any(|end| name.ends_with(end))
    }
}

impl TensorSource for Decoded {
    fn names(&self) -> Vec<&str> {
        self.base.names().into_iter().filter(|name| !Self::is_bookkeeping(name)).collect()
    }

    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let tensor = self.base.tensor(name)?;
        let is_encoded = matches!(tensor.dtype, Dtype::Block(_)) || self.scales.contains_key(tensor.name);
        Some(if is_encoded { Tensor { dtype: &Dtype::F32, ..tensor } } else { tensor })
    }

    fn read<'a>(&'a self, name: &'a str, offset: u64, len: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            if let Some(tensor) = self.base.tensor(name)
                && let &Dtype::Block(kind) = tensor.dtype
            {
                return self.read_blocks(tensor, kind, offset, len).await;
            }
            let scaled = self.base.tensor(name).and_then(|tensor| Some((tensor, *self.scales.get(tensor.name)?)));
            let Some((tensor, scale)) = scaled else { return self.base.read(name, offset, len).await };
            let refuse = || Error::TensorDtype {
                name: tensor.name.to_owned(),
                file: tensor.file.to_owned(),
                got: tensor.dtype.name().to_owned(),
            };
            let n_bytes = tensor.dtype.n_bytes().ok_or_else(refuse)?;
            let (first, n) = (offset / size_of::<f32>() as u64, len / size_of::<f32>());
            let bytes = self.base.read(name, first * n_bytes as u64, n * n_bytes).await?;
            let mut values = convert::f32_from_le_bytes(tensor.dtype, &bytes).ok_or_else(refuse)?;
            for value in &mut values {
                *value *= scale;
            }
            Ok(bytemuck::cast_slice(&values).to_vec())
        })
    }

    fn blocks(&self, name: &str) -> Option<BlockType> {
        match self.base.tensor(name)?.dtype {
            Dtype::Block(kind) => Some(*kind),
            _ => None,
        }
    }

    fn read_blocks<'a>(&'a self, name: &'a str, first: u64, n: u64) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let tensor = self.base.tensor(name);
            let n_values = tensor.map_or(0, |tensor| tensor.shape.iter().product::<usize>() as u64);
            let is_inside = first.checked_add(n).is_some_and(|end| end <= n_values);
            let bytes = self.blocks(name).filter(|_| is_inside).and_then(|kind| kind.whole_blocks(first, n));
            let Some((tensor, bytes)) = tensor.zip(bytes) else {
                return Err(no_blocks(self.describe(), name, first, n));
            };
            self.base.read(tensor.name, bytes.start, (bytes.end - bytes.start) as usize).await
        })
    }

    fn describe(&self) -> String {
        self.base.describe()
    }
}
