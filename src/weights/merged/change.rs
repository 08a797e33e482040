//! What an adapter does to one tensor of a model: which of its own tensors make the difference, checked against the shape
//! that it changes before anything is read.

use super::arithmetic::{Delta, Magnitude, Sizes};
use super::product::Product;
use crate::error::Result;
use crate::weights::Weights;

/// The most values of a factor: three times those of the largest of real files. Factors are read whole.
const MAX_FACTOR: usize = 1 << 26;

/// A matrix as a product of an adapter's tensors, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factors {
    /// \[rows,rank\], or \[rank,rows\] where it is `left_transposed`.
    pub left: String,
    /// Whether rows and columns of the left factor are exchanged.
    pub left_transposed: bool,
    /// \[rank,inputs*kernel\]; with a core \[rank,inputs\].
    pub right: String,
    /// \[rank,rank,kernel\] of the Tucker form.
    pub core: Option<String>,
}

/// A half of a Kronecker product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Half {
    /// A tensor.
    Whole(String),
    /// A product.
    Product(Factors),
}

/// The kind of a difference, by the names of its tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// LoRA and LoCon.
    Product(Factors),
    /// LoHa.
    Hadamard(Factors, Factors),
    /// LoKr.
    Kronecker(Half, Half),
    /// A whole tensor that is added.
    Added(String),
    /// IA3: factors for each output, or for each input.
    Scaled {
        /// The factors.
        by: String,
        /// Whether they are for inputs.
        on_input: bool,
    },
}

/// The tensor of magnitudes of a decomposed weight (DoRA).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnitudes {
    /// Its name.
    pub name: String,
    /// Whether they are for inputs.
    pub on_input: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Change {
    tensors: Weights,
    form: Form,
    scale: f32,
    magnitudes: Option<Magnitudes>,
    sizes: Sizes,
}

/// What is read of an adapter's tensors to change a tensor.
#[derive(Debug)]
pub(super) struct Prepared {
    /// `None` where a whole tensor is added, which is read in pieces.
    pub delta: Option<Delta>,
    pub magnitude: Option<Magnitude>,
}

/// A tensor's first side, and the product of the others.
fn sides(tensors: &Weights, name: &str) -> Result<(usize, usize), String> {
    let tensor = tensors.get(name).ok_or_else(|| format!("{name} is missing"))?;
    if tensor.dtype.n_bytes().is_none() {
        return Err(format!("{name} has the type {}", tensor.dtype.name()));
    }
    let [first, rest @ ..] = tensor.shape else { return Err(format!("{name} is a single number")) };
    let rest = rest.iter().try_fold(1usize, |n, side| n.checked_mul(*side));
    match rest.and_then(|rest| Some((rest, first.checked_mul(rest)?))) {
        Some((_, 0)) => Err(format!("{name} of shape {:?} is empty", tensor.shape)),
        Some((rest, n)) if n <= MAX_FACTOR => Ok((*first, rest)),
        _ => Err(format!("{name} of shape {:?} is too large", tensor.shape)),
    }
}

/// How many values a tensor has.
fn n_values(tensors: &Weights, name: &str) -> Result<usize, String> {
    sides(tensors, name).map(|(first, rest)| first * rest)
}

fn shape_text(tensors: &Weights, name: &str) -> String {
    tensors.get(name).map_or_else(String::new, |tensor| format!("{:?}", tensor.shape))
}

/// The values of an adapter's tensor.
async fn read_finite(tensors: &Weights, name: &str) -> Result<Vec<f32>> {
    let values = tensors.read_f32(name).await?;
    check_finite(tensors, name, &values)?;
    Ok(values)
}

/// # Errors
/// [`crate::Error::Safetensors`] where a value is a NaN or an infinity.
pub(super) fn check_finite(tensors: &Weights, name: &str, values: &[f32]) -> Result<()> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    let file = tensors.get(name).map_or_else(|| tensors.file_names(), |tensor| tensor.file.to_owned());
    let reason = format!("{name} has a value that is a NaN or infinite: the file is broken, or was made wrong");
    Err(crate::Error::Safetensors { file, reason })
}

impl Factors {
    /// The rank of the product of left and right; `None` for the Tucker form.
    fn rank(&self, tensors: &Weights) -> Option<usize> {
        let (first, rest) = sides(tensors, &self.left).ok()?;
        self.core.is_none().then_some(if self.left_transposed { first } else { rest })
    }

    /// Rows, and values of a row, of the product.
    fn sizes(&self, tensors: &Weights) -> Result<(usize, usize), String> {
        let (first, rest) = sides(tensors, &self.left)?;
        let (rows, rank) = if self.left_transposed { (rest, first) } else { (first, rest) };
        let (right_rank, inputs) = sides(tensors, &self.right)?;
        let disagree = |name: &str| {
            let (left, other) = (shape_text(tensors, &self.left), shape_text(tensors, name));
            Err(format!("{} of shape {left} does not fit {name} of shape {other}", self.left))
        };
        let Some(core) = &self.core else {
            return if rank == right_rank { Ok((rows, inputs)) } else { disagree(&self.right) };
        };
        sides(tensors, core)?;
        let shape = tensors.get(core).map_or(&[][..], |tensor| tensor.shape);
        let [p, q, kernel @ ..] = shape else { return disagree(core) };
        if (*p, *q) != (rank, right_rank) {
            return disagree(core);
        }
        match kernel.iter().product::<usize>().checked_mul(inputs) {
            Some(cols) if cols.checked_mul(rank).is_some_and(|n| n <= MAX_FACTOR) => Ok((rows, cols)),
            _ => Err(format!("{core} of shape {shape:?} is too large")),
        }
    }

    async fn read(&self, tensors: &Weights) -> Result<Product> {
        let (first, rest) = sides(tensors, &self.left).unwrap_or((1, 1));
        let mut left = read_finite(tensors, &self.left).await?;
        let right = read_finite(tensors, &self.right).await?;
        let mut rank = rest;
        if self.left_transposed {
            rank = first;
            let stored = std::mem::take(&mut left);
            left = (0..stored.len()).map(|i| stored[i % rank * rest + i / rank]).collect();
        }
        let product = match &self.core {
            None => {
                let cols = right.len() / rank.max(1);
                Product::new(left, right, rank, cols)
            }
            Some(core) => {
                let q = sides(tensors, &self.right).map_or(1, |(q, _)| q);
                let core = read_finite(tensors, core).await?;
                let kernel = core.len() / (rank * q).max(1);
                Product::tucker(left, &core, &right, [rank, q, kernel])
            }
        };
        // Their shapes were compared before.
        product.ok_or_else(|| crate::Error::Safetensors {
            file: tensors.file_names(),
            reason: format!("{} does not fit {}", self.left, self.right),
        })
    }
}

impl Half {
    fn sizes(&self, tensors: &Weights) -> Result<(usize, usize), String> {
        match self {
            Half::Whole(name) => sides(tensors, name),
            Half::Product(factors) => factors.sizes(tensors),
        }
    }

    async fn read(&self, tensors: &Weights) -> Result<Vec<f32>> {
        match self {
            Half::Whole(name) => read_finite(tensors, name).await,
            Half::Product(factors) => {
                let product = factors.read(tensors).await?;
                let mut values = vec![0.0; product.rows() * product.cols()];
                product.add(0..product.rows(), 1.0, &mut values);
                Ok(values)
            }
        }
    }
}

impl Change {
    /// What `form` does to a tensor of `shape`, times `scale` (alpha / rank).
    ///
    /// # Errors
    /// Why it does not fit, as a part of a sentence.
    pub fn new(
        tensors: &Weights,
        form: Form,
        scale: f32,
        magnitudes: Option<Magnitudes>,
        shape: &[usize],
    ) -> Result<Self, String> {
        let sizes = Sizes::of(shape);
        let (rows, cols) = (sizes.rows, sizes.cols());
        let refuse = |name: &str, got: (usize, usize)| {
            let of = shape_text(tensors, name);
            Err(format!("{name} of shape {of} makes a matrix of {got:?}, and the weight has shape {shape:?}"))
        };
        match &form {
            Form::Product(factors) => {
                let got = factors.sizes(tensors)?;
                if got != (rows, cols) {
                    return refuse(&factors.right, got);
                }
            }
            Form::Hadamard(first, second) => {
                for factors in [first, second] {
                    let got = factors.sizes(tensors)?;
                    if got != (rows, cols) {
                        return refuse(&factors.right, got);
                    }
                }
            }
            Form::Kronecker(first, second) => {
                let ((a, b), (c, d)) = (first.sizes(tensors)?, second.sizes(tensors)?);
                let got = a.checked_mul(c).zip(b.checked_mul(d)).unwrap_or_default();
                // The kernel lies in the second half.
                if got != (rows, cols) || d % sizes.kernel != 0 {
                    let (Half::Whole(name) | Half::Product(Factors { right: name, .. })) = second;
                    return refuse(name, got);
                }
            }
            Form::Added(name) => {
                if n_values(tensors, name)? != sizes.n_values() {
                    return refuse(name, sides(tensors, name)?);
                }
            }
            Form::Scaled { by, on_input } => {
                let n = n_values(tensors, by)?;
                if n != if *on_input { sizes.inputs } else { rows } {
                    return refuse(by, sides(tensors, by)?);
                }
            }
        }
        if let Some(Magnitudes { name, on_input }) = &magnitudes
            && n_values(tensors, name)? != if *on_input { sizes.inputs } else { rows }
        {
            return refuse(name, sides(tensors, name)?);
        }
        Ok(Change { tensors: tensors.clone(), form, scale, magnitudes, sizes })
    }

    /// The kind of the difference, for messages and tests.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.form {
            Form::Product(_) => "product",
            Form::Hadamard(..) => "hadamard",
            Form::Kronecker(..) => "kronecker",
            Form::Added(_) => "added",
            Form::Scaled { .. } => "scaled",
        }
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// That a tensor of the model with this in it has values beyond what f32 holds.
    pub(super) fn too_large(&self, name: &str) -> crate::Error {
        let reason =
            format!("it makes values of {name} larger than any number: lower its strength, or the file is broken");
        crate::Error::Safetensors { file: self.tensors.file_names(), reason }
    }

    /// The rank of a difference that is a product of two factors and nothing else.
    pub(super) fn rank(&self) -> Option<usize> {
        match (&self.form, &self.magnitudes) {
            (Form::Product(factors), None) => factors.rank(&self.tensors),
            _ => None,
        }
    }

    /// The factors of such a difference, with alpha / rank.
    pub(super) async fn product(&self) -> Result<Option<(Product, f32)>> {
        match &self.form {
            Form::Product(factors) => Ok(Some((factors.read(&self.tensors).await?, self.scale))),
            _ => Ok(None),
        }
    }

    /// The tensor that is added whole, with its scale.
    pub(super) fn added(&self) -> Option<(&Weights, &str, f32)> {
        match &self.form {
            Form::Added(name) => Some((&self.tensors, name, self.scale)),
            _ => None,
        }
    }

    pub(super) async fn prepare(&self) -> Result<Prepared> {
        let (tensors, scale) = (&self.tensors, self.scale);
        let delta = match &self.form {
            Form::Product(factors) => Some(Delta::Product { product: factors.read(tensors).await?, scale }),
            Form::Hadamard(first, second) => {
                let (first, second) = (first.read(tensors).await?, second.read(tensors).await?);
                Some(Delta::Hadamard { first, second, scale })
            }
            Form::Kronecker(first, second) => {
                let cols = |half: &Half| half.sizes(tensors).map_or(1, |(_, cols)| cols);
                let (first_cols, second_cols) = (cols(first), cols(second));
                let (first, second) = (first.read(tensors).await?, second.read(tensors).await?);
                Some(Delta::Kronecker { first, first_cols, second, second_cols, scale })
            }
            Form::Added(_) => None,
            Form::Scaled { by, on_input } => {
                Some(Delta::Scaled { factors: read_finite(tensors, by).await?, on_input: *on_input })
            }
        };
        let magnitude = match &self.magnitudes {
            Some(Magnitudes { name, on_input: true }) => Some(Magnitude::Inputs(read_finite(tensors, name).await?)),
            Some(Magnitudes { name, on_input: false }) => Some(Magnitude::Rows(read_finite(tensors, name).await?)),
            None => None,
        };
        Ok(Prepared { delta, magnitude })
    }
}
