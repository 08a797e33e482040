// A matrix product with weights in blocks of 8-bit codes that multiplies in f16.

#import weight_q8_0
#import multiply_f16
#import gemm
