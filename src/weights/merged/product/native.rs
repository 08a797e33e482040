//! Natively the gemm crate multiplies, which finds out which vector instructions the processor has.

use gemm::Parallelism;

/// Adds `scale` times left \[m,k\] right \[k,n\] to `out`, \[m,n\].
pub(super) fn add(left: &[f32], right: &[f32], [m, n, k]: [usize; 3], scale: f32, out: &mut [f32]) {
    assert!(left.len() == m * k && right.len() == k * n && out.len() == m * n, "the sizes of a product do not fit");
    let (row, parallelism) = (n as isize, Parallelism::Rayon(rayon::current_num_threads()));
    // SAFETY: the slices have the sizes of the three matrices, row by row, and `out` is borrowed for itself.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            row,
            true,
            left.as_ptr(),
            1,
            k as isize,
            right.as_ptr(),
            1,
            row,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
