//! `copy`: a box of values from one place to another, of up to four dimensions with strides: what concatenation and
//! slices along any axis need.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// Holds the box to copy; strides and offsets are within the bound range.
        source: ReadWrite T,
        /// Takes it.
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "copy",
    wgsl: include_str!("copy.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &[],
    elements: Element::ALL,
    widths: Width::ALL,
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_cells: u32,
        size_1: u32,
        size_2: u32,
        size_3: u32,
        from_strides: [u32; 4],
        to_strides: [u32; 4],
        from_offset: u32,
        to_offset: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// One copy, all in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Sizes of the box.
    pub size: [u32; 4],
    /// Where the first value is.
    pub from_offset: u32,
    /// From one entry of a dimension to the next.
    pub from_strides: [u32; 4],
    /// Where the first value goes.
    pub to_offset: u32,
    /// From one entry of a dimension to the next.
    pub to_strides: [u32; 4],
}

/// Strides of a tensor without gaps.
fn dense(shape: [u32; 4]) -> [u32; 4] {
    [shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1]
}

impl Copy {
    /// One part of a concatenation: a tensor of shape `part` becomes the entries from `start` on along `axis` of a tensor
    /// of shape `whole`.
    #[must_use]
    pub fn into_part(part: [u32; 4], whole: [u32; 4], axis: usize, start: u32) -> Self {
        Self {
            size: part,
            from_offset: 0,
            from_strides: dense(part),
            to_offset: start * dense(whole)[axis],
            to_strides: dense(whole),
        }
    }

    /// A slice: `len` entries from `start` on along `axis` of a tensor of shape `whole`.
    #[must_use]
    pub fn slice(whole: [u32; 4], axis: usize, start: u32, len: u32) -> Self {
        let mut size = whole;
        size[axis] = len;
        Self {
            size,
            from_offset: start * dense(whole)[axis],
            from_strides: dense(whole),
            to_offset: 0,
            to_strides: dense(size),
        }
    }

    /// Whole rows of a picture: a box of `size` from row `from_row` of one tensor to row `to_row` of another, both as wide.
    #[must_use]
    pub fn rows(size: [u32; 4], from_row: u32, to_row: u32) -> Self {
        let strides = dense(size);
        Self {
            size,
            from_offset: from_row * strides[1],
            from_strides: strides,
            to_offset: to_row * strides[1],
            to_strides: strides,
        }
    }

    fn width(&self) -> Width {
        let aligned = Width::of(&[self.size[3], self.from_offset, self.to_offset]) == Width::Four
            && Width::of(&self.from_strides[..3]) == Width::Four
            && Width::of(&self.to_strides[..3]) == Width::Four;
        if aligned && self.from_strides[3] == 1 && self.to_strides[3] == 1 { Width::Four } else { Width::One }
    }
}

/// Copies.
///
/// # Errors
/// [`crate::Error::Shape`] when there are too many values to address.
pub fn launch(copy: &Copy, element: Element) -> Result<Launch> {
    let n_values = count(KERNEL.name, &copy.size)?;
    let width = copy.width();
    let cells = |strides: [u32; 4]| match width {
        Width::One => strides,
        Width::Four => [strides[0] / 4, strides[1] / 4, strides[2] / 4, 1],
    };
    let params = Params {
        n_cells: n_values / width.elements(),
        size_1: copy.size[1],
        size_2: copy.size[2],
        size_3: copy.size[3] / width.elements(),
        from_strides: cells(copy.from_strides),
        to_strides: cells(copy.to_strides),
        from_offset: copy.from_offset / width.elements(),
        to_offset: copy.to_offset / width.elements(),
        padding_0: 0,
        padding_1: 0,
    };
    let workgroups = spread_cells(KERNEL.name, params.n_cells)?;
    Ok(Launch::new(&KERNEL, element, width, &[], &params, workgroups))
}

/// The same in plain Rust, into `to`.
pub fn reference(copy: &Copy, from: &[f32], to: &mut [f32]) {
    let [n0, n1, n2, n3] = copy.size;
    let at = |offset: u32, strides: [u32; 4], index: [u32; 4]| {
        (offset + index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<u32>()) as usize
    };
    for i0 in 0..n0 {
        for i1 in 0..n1 {
            for i2 in 0..n2 {
                for i3 in 0..n3 {
                    let index = [i0, i1, i2, i3];
                    to[at(copy.to_offset, copy.to_strides, index)] =
                        from[at(copy.from_offset, copy.from_strides, index)];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_whole_and_slices_take_it_apart() {
        let whole = [1, 2, 1, 3];
        let mut joined = vec![0.0; 6];
        reference(&Copy::into_part([1, 2, 1, 1], whole, 3, 0), &[1.0, 4.0], &mut joined);
        reference(&Copy::into_part([1, 2, 1, 2], whole, 3, 1), &[2.0, 3.0, 5.0, 6.0], &mut joined);
        assert_eq!(joined, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mut row = vec![0.0; 3];
        reference(&Copy::slice(whole, 1, 1, 1), &joined, &mut row);
        assert_eq!(row, [4.0, 5.0, 6.0]);
    }

    #[test]
    fn cells_of_four_are_used_only_where_everything_is_aligned() {
        assert_eq!(Copy::slice([1, 4, 4, 8], 3, 4, 4).width(), Width::Four);
        assert_eq!(Copy::slice([1, 4, 4, 8], 3, 2, 4).width(), Width::One);
        assert_eq!(Copy::into_part([1, 4, 4, 4], [1, 4, 4, 9], 3, 0).width(), Width::One);
    }
}
