// `gemm_matrix_16` with weights in blocks of 8-bit codes.

#import matrix_16
#import weight_q8_0
#import weight_eights
#import gemm_matrix
