//! `add`: the sum of two tensors, of which the second may repeat along dimensions where it has size 1.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// The first operand.
        a: ReadWrite T,
        /// The second, which may repeat.
        b: ReadWrite T,
        /// Of a's shape.
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "add",
    wgsl: include_str!("add.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["repeats"],
    elements: Element::ALL,
    widths: Width::ALL,
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_cells: u32,
        stride_0: u32,
        stride_1: u32,
        stride_2: u32,
        size_1: u32,
        size_2: u32,
        size_3: u32,
        stride_3: u32,
    }
}

/// Adds b of `b_shape` to a of `shape`. Each dimension of b is a's or 1; shapes of fewer dimensions have ones in front.
///
/// # Errors
/// [`crate::Error::Shape`] when the shapes do not fit, or there are too many values to address.
pub fn launch(shape: [u32; 4], b_shape: [u32; 4], element: Element) -> Result<Launch> {
    let n_values = count(KERNEL.name, &shape)?;
    if shape.iter().zip(&b_shape).any(|(a, b)| b != a && *b != 1) {
        return Err(refuse(KERNEL.name, format!("cannot add {b_shape:?} to {shape:?}")));
    }
    let repeats = shape != b_shape;
    // Where b has one channel and a has more, a cell of b is not a cell of a.
    let width = if repeats { Width::of(&[shape[3], b_shape[3]]) } else { Width::of(&[n_values]) };
    let cells = |shape: [u32; 4]| [shape[0], shape[1], shape[2], shape[3] / width.elements()];
    let n_cells = n_values / width.elements();
    let (size, b_size) =
        if repeats { (cells(shape), cells(b_shape)) } else { ([1, 1, 1, n_cells], [1, 1, 1, n_cells]) };
    let mut stride = [0; 4];
    let mut next = 1;
    for axis in (0..4).rev() {
        stride[axis] = if b_size[axis] == 1 { 0 } else { next };
        next *= b_size[axis];
    }
    let params = Params {
        n_cells,
        stride_0: stride[0],
        stride_1: stride[1],
        stride_2: stride[2],
        size_1: size[1],
        size_2: size[2],
        size_3: size[3],
        stride_3: stride[3],
    };
    let constants = [("repeats", f64::from(u8::from(repeats)))];
    Ok(Launch::new(&KERNEL, element, width, &constants, &params, spread_cells(KERNEL.name, n_cells)?))
}

/// The same in plain Rust.
#[must_use]
pub fn reference(a: &[f32], b: &[f32], shape: [u32; 4], b_shape: [u32; 4]) -> Vec<f32> {
    let mut out = Vec::with_capacity(a.len());
    for (i, a) in a.iter().enumerate() {
        let (mut rest, mut at, mut stride) = (i, 0, 1);
        for axis in (0..4).rev() {
            let (size, b_size) = (shape[axis] as usize, b_shape[axis] as usize);
            at += if b_size == 1 { 0 } else { rest % size * stride };
            rest /= size;
            stride *= b_size;
        }
        out.push(a + b[at]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_repeats_where_b_has_one() {
        let sum = reference(&[1.0, 2.0, 3.0, 4.0], &[10.0, 20.0], [1, 1, 2, 2], [1, 1, 2, 1]);
        assert_eq!(sum, [11.0, 12.0, 23.0, 24.0]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(launch([1, 1, 2, 4], [1, 1, 3, 4], Element::F32).is_err());
    }
}
