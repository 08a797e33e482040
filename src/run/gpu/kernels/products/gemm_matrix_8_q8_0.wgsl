// `gemm_matrix_8` with weights in blocks of 8-bit codes.

#import matrix_8
#import weight_q8_0
#import weight_eights
#import gemm_matrix
