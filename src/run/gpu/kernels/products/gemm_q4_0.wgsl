// A matrix product with weights in blocks of 4-bit codes.

#import weight_q4_0
#import multiply_f32
#import gemm
