// A matrix product with weights in blocks of 8-bit codes.

#import weight_q8_0
#import multiply_f32
#import gemm
