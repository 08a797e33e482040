// Attention that multiplies in f32 and has each query in a subgroup.

#import multiply_f32
#import row_by_subgroup
#import attention_by_invocations
