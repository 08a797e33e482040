// A matrix product with weights in f32.

#import weight_f32
#import multiply_f32
#import gemm
