// `gemm_matrix_8` with weights in f32.

#import matrix_8
#import weight_f32
#import weight_eights
#import gemm_matrix
