//! Runners execute graphs. [`candle`] runs them node by node on the CPU, with kernels of our own (`cpu`), or on CUDA; it
//! is the reference. [`gpu`] compiles them for WebGPU.
//!
//! A runner knows nothing of prompts, samplers or pictures: it loads weights, runs graphs, and does the sampler's
//! arithmetic on whatever device holds the tensors.

#[cfg(any(target_arch = "wasm32", feature = "cpu"))]
pub mod candle;
#[cfg(any(target_arch = "wasm32", feature = "cpu"))]
mod cpu;
#[cfg(any(target_arch = "wasm32", feature = "gpu"))]
pub mod gpu;

use crate::error::Result;
use crate::graph::Graph;
use crate::weights::Weights;

/// How the channels of a pixel become colours between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colours {
    /// For red, green and blue the weights of the first four channels.
    pub weights: [[f32; 4]; 3],
    /// What is added.
    pub constant: [f32; 3],
}

impl Colours {
    /// A decoded picture, whose three channels go from -1 to 1.
    pub const PICTURE: Colours =
        Colours { weights: [[0.5, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0]], constant: [0.5; 3] };

    /// Red, green, blue and 255 for pixels of so many channels.
    #[must_use]
    pub fn rgba(&self, pixels: &[f32], channels: usize) -> Vec<u8> {
        let of_pixel = |pixel: &[f32]| -> [u8; 4] {
            let level = |colour: usize| {
                let sum: f32 = pixel.iter().zip(self.weights[colour]).map(|(x, weight)| x * weight).sum();
                ((sum + self.constant[colour]).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
            };
            [level(0), level(1), level(2), 255]
        };
        pixels.chunks_exact(channels.max(1)).flat_map(of_pixel).collect()
    }
}

/// Executes graphs on one device.
#[allow(async_fn_in_trait, reason = "futures stay on the thread that made them: the browser has one")]
pub trait Runner {
    /// A tensor on the device. Cloning is cheap and shares the values.
    type Tensor: Clone;
    /// The weights of one component on the device.
    type Weights;
    /// A graph made ready to be run many times.
    type Program;

    /// What runs, for people: `cpu (candle, f32, 2 threads)`.
    fn describe(&self) -> String;

    /// Brings the tensors that `graphs` use to the device, in the form in which these and all graphs of the same layers at
    /// other sizes want them. `progress` is told the bytes read from the checkpoint so far, and returns whether to go on.
    ///
    /// # Errors
    /// What [`Weights`] says of a tensor that is missing or of another shape, or a device out of memory;
    /// [`crate::Error::Cancelled`] when `progress` said so.
    async fn load(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self::Weights>;

    /// As [`Runner::load`], with at most `most_bytes` of weights on the device at once: the others are read while a program
    /// runs, each time. Runners without such a bound load all.
    ///
    /// # Errors
    /// As [`Runner::load`]. A run that reads weights fails as loading them does.
    async fn load_within(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        _most_bytes: u64,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self::Weights> {
        self.load(graphs, weights, progress).await
    }

    /// Reads some tensors anew, by name, in the place of those in `loaded`: `weights` has other values for them than those
    /// that it was made from with the same graphs. After an error the values are those of either.
    ///
    /// # Errors
    /// As [`Runner::load`].
    async fn replace(
        &self,
        graphs: &[Graph],
        weights: &Weights,
        names: &[String],
        loaded: &Self::Weights,
    ) -> Result<()>;

    /// How attention's scores are held in the runs that follow: never all at once (`flash`), of so many heads at a time
    /// (`sliced`; 0 lets the runner choose), or, with neither, all of them.
    ///
    /// # Errors
    /// [`crate::Error::Request`] when the runner cannot do that.
    fn use_attention(&self, flash: bool, sliced: Option<usize>) -> Result<()>;

    /// Whether what it computes depends on values. For a runner that only counts nothing needs to be read.
    fn needs_values(&self) -> bool {
        true
    }

    /// Told of graphs that will be prepared before long, in that order: what takes time without their weights may begin.
    /// What is wrong with a graph is said when it is prepared.
    fn foresee(&self, _graphs: &[Graph]) {}

    /// Makes a graph ready. Cheap compared with a run.
    ///
    /// # Errors
    /// When the device cannot run the graph.
    async fn prepare(&self, graph: Graph) -> Result<Self::Program>;

    /// Makes a graph ready with all values in f32; `None` where [`Runner::prepare`] does that anyway.
    ///
    /// # Errors
    /// As [`Runner::prepare`].
    async fn prepare_f32(&self, graph: Graph) -> Result<Option<Self::Program>>;

    /// Runs a program on inputs by name; gives the graph's outputs in order. `progress` is told the floating-point
    /// operations done so far and returns whether to go on. Within an operation that takes long it is asked again with the
    /// same number.
    ///
    /// # Errors
    /// [`crate::Error::Run`] naming the node, or [`crate::Error::Cancelled`] when `progress` said so.
    async fn run(
        &self,
        program: &Self::Program,
        weights: &Self::Weights,
        inputs: &[(&str, &Self::Tensor)],
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<Self::Tensor>>;

    /// Gives back the memory that only runs need. A later run makes what it needs anew; one that is under way keeps what it
    /// has.
    fn trim(&self);

    /// Floats to the device.
    ///
    /// # Errors
    /// When the device is out of memory or lost.
    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<Self::Tensor>;

    /// Token ids or row numbers to the device.
    ///
    /// # Errors
    /// As [`Runner::upload`].
    fn upload_ids(&self, ids: &[u32], shape: &[usize]) -> Result<Self::Tensor>;

    /// Floats from the device.
    ///
    /// # Errors
    /// When the device is lost.
    async fn download(&self, tensor: &Self::Tensor) -> Result<Vec<f32>>;

    /// How many values are NaN or infinite.
    ///
    /// # Errors
    /// As [`Runner::download`].
    async fn count_non_finite(&self, tensor: &Self::Tensor) -> Result<u64>;

    /// Every `step`th pixel of a tensor \[1,H,W,C\] in either direction as red, green, blue and 255, row by row.
    ///
    /// # Errors
    /// As [`Runner::download`].
    async fn rgba(&self, tensor: &Self::Tensor, step: usize, colours: &Colours) -> Result<Vec<u8>>;

    /// The sum of tensors of one shape, each times a scalar, clamped if asked for. All of a sampler's arithmetic.
    ///
    /// # Errors
    /// When the shapes differ or the device fails.
    fn lincomb(&self, terms: &[(f64, &Self::Tensor)], clamp: Option<(f64, f64)>) -> Result<Self::Tensor>;

    /// mask a + (1 - mask) b for latents \[B,h,w,C\] and a mask \[B,h,w,1\]: inpainting with a 4-channel model.
    ///
    /// # Errors
    /// As [`Runner::lincomb`].
    fn blend(&self, mask: &Self::Tensor, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// Tensors joined along an axis.
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    fn concat(&self, parts: &[&Self::Tensor], axis: usize) -> Result<Self::Tensor>;

    /// `len` entries from `start` along an axis.
    ///
    /// # Errors
    /// When the range is outside or the device fails.
    fn slice(&self, tensor: &Self::Tensor, axis: usize, start: usize, len: usize) -> Result<Self::Tensor>;
}
