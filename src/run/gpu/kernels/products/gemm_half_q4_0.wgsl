// A matrix product with weights in blocks of 4-bit codes that multiplies in f16.

#import weight_q4_0
#import multiply_f16
#import gemm
