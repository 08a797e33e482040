// `gemm` with cooperative matrices of 8x8, such as Metal has.

#import matrix_8
#import weight_eights_f16
#import gemm_matrix
