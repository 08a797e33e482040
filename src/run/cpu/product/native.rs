//! Natively the gemm crate multiplies, which finds out which vector instructions the processor has.

use gemm::Parallelism;

use super::Strided;

/// See [`super::matmul`].
///
/// # Safety
/// Every index that the sizes and strides reach lies inside its slice.
pub unsafe fn multiply(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    accumulate: bool,
    lhs: Strided,
    rhs: Strided,
    shared: bool,
) {
    let parallelism = if shared { Parallelism::Rayon(rayon::current_num_threads()) } else { Parallelism::None };
    // SAFETY: the caller's promise is what gemm wants, and `out` is borrowed for itself.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            lhs.values.as_ptr(),
            lhs.col as isize,
            lhs.row as isize,
            rhs.values.as_ptr(),
            rhs.col as isize,
            rhs.row as isize,
            if accumulate { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
