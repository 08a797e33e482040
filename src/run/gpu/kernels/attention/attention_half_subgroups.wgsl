// Attention that multiplies in f16 and has each query in a subgroup.

#import multiply_f16
#import row_by_subgroup
#import attention_by_invocations
