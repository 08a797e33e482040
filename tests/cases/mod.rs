//! Cases of the kernels, run natively by `gpu.rs` and in a browser by `web.rs`, so that both prove the same.

pub mod lincomb;
