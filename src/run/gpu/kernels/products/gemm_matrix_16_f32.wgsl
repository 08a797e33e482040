// `gemm_matrix_16` with weights in f32.

#import matrix_16
#import weight_f32
#import weight_eights
#import gemm_matrix
