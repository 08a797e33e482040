// A matrix product with weights in f16 that multiplies in f16.

#import weight_f16
#import multiply_f16
#import gemm
