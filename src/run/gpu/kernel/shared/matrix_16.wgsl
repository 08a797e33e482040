enable wgpu_cooperative_matrix;

// Cooperative matrices of 16x16, which the invocations of a subgroup hold and multiply together: f16 factors, f32 sums.
const SIDE = 16u;
alias matrix_a = coop_mat16x16<f16, A>;
alias matrix_b = coop_mat16x16<f16, B>;
alias matrix_c = coop_mat16x16<f32, C>;

