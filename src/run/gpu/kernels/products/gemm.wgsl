// A matrix product with weights in f16.

#import weight_f16
#import multiply_f32
#import gemm
