// `gemm` with cooperative matrices of 8x8, such as Metal has.

#import matrix_8
#import gemm_matrix
