// `gemm_matrix_16` with weights in blocks of 4-bit codes.

#import matrix_16
#import weight_q4_0
#import weight_eights
#import gemm_matrix
