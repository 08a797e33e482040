//! The operations a graph is made of. About twenty are enough for Stable Diffusion.

/// An elementwise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Phi(x)` with the error function, not the tanh approximation.
    Gelu,
    /// `x * sigmoid(1.702 x)`, as in OpenAI's CLIP.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

/// What is given at a run, and so in which type a runner holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// Floats from the caller or the sampler, in f32.
    Values,
    /// What another graph of the same model computed for a prompt, in the runner's own type.
    Computed,
    /// Unsigned integers: token ids, row numbers.
    Ids,
}

/// What a node computes. Shapes: B batch, H W image, C channels, T tokens, D width.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A value given at every run.
    Input(InputKind),
    /// A tensor of the checkpoint, in the checkpoint's own layout.
    Weight,
    /// x \[B,H,W,C\], weight \[O,C,K,K\], optional bias \[O\] → \[B,H',W',O\]. `pad` is top, left, bottom, right.
    /// With `upsample` the picture is first taken to that height and width by repeating each pixel 2x2; where a side is odd
    /// the last repetition is left out. That is what `nearest` makes of any side that is doubled, or doubled less one.
    Conv2d { stride: usize, pad: [usize; 4], upsample: Option<[usize; 2]> },
    /// x \[..,D\], weight \[O,D\], optional bias \[O\] → \[..,O\].
    Linear,
    /// x \[B,..,C\], weight \[C\], bias \[C\]: statistics per batch item and group of C/groups channels, over everything
    /// between.
    GroupNorm { groups: usize, eps: f64 },
    /// x \[..,D\], weight \[D\], bias \[D\]: statistics per row.
    LayerNorm { eps: f64 },
    /// Elementwise.
    Activation(Activation),
    /// x \[..,2D\] → \[..,D\]: first half times gelu of the second half.
    Geglu,
    /// a + b, where each dimension of b is a's or 1.
    Add,
    /// x times a constant.
    Scale { factor: f64 },
    /// x \[..,C\] times a factor plus an offset: one pair for all, or one for each of C = 4 channels.
    Affine { factors: Vec<f64>, offsets: Vec<f64> },
    /// Two or more values joined along an axis.
    Concat { axis: usize },
    /// The same elements in the same order under another shape.
    Reshape,
    /// `len` entries from `start` along an axis.
    Slice { axis: usize, start: usize, len: usize },
    /// ids \[..\], x \[N,D\] → \[..,D\]: rows of a computed value by number.
    Gather,
    /// t \[B\] → \[B,dim\]: cosines and sines of t times a geometric range of frequencies down to 1/10000
    /// (diffusers' `get_timestep_embedding`).
    TimestepEmbedding { dim: usize, flip_sin_to_cos: bool, freq_shift: f64 },
    /// q \[B,T,D\], k \[B,S,D\], v \[B,S,D\] → \[B,T,D\]: softmax(q kᵀ scale) v for each of `heads` slices of D. `causal`
    /// hides later keys. `upcast` says that scores must not be computed in f16.
    Attention { heads: usize, scale: f64, causal: bool, upcast: bool },
}

impl Op {
    /// The name of the operation, the same everywhere: in errors, kernels, profiles, tests.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input(_) => "input",
            Op::Weight => "weight",
            Op::Conv2d { .. } => "conv2d",
            Op::Linear => "linear",
            Op::GroupNorm { .. } => "group_norm",
            Op::LayerNorm { .. } => "layer_norm",
            Op::Activation(Activation::Silu) => "silu",
            Op::Activation(Activation::Gelu) => "gelu",
            Op::Activation(Activation::QuickGelu) => "quick_gelu",
            Op::Activation(Activation::Relu) => "relu",
            Op::Activation(Activation::Tanh) => "tanh",
            Op::Geglu => "geglu",
            Op::Add => "add",
            Op::Scale { .. } => "scale",
            Op::Affine { .. } => "affine",
            Op::Concat { .. } => "concat",
            Op::Reshape => "reshape",
            Op::Slice { .. } => "slice",
            Op::Gather => "gather",
            Op::TimestepEmbedding { .. } => "timestep_embedding",
            Op::Attention { .. } => "attention",
        }
    }
}
