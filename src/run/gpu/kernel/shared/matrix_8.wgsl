enable wgpu_cooperative_matrix;

// Cooperative matrices of 8x8, which the invocations of a subgroup hold and multiply together: f16 factors, f32 sums.
const SIDE = 8u;
alias matrix_a = coop_mat8x8<f16, A>;
alias matrix_b = coop_mat8x8<f16, B>;
alias matrix_c = coop_mat8x8<f32, C>;

