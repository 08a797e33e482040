// `gemm` with cooperative matrices of 16x16, such as the tensor cores of NVIDIA cards have.

#import matrix_16
#import weight_eights_f16
#import gemm_matrix
