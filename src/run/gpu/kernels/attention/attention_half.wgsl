// Attention that multiplies in f16.

#import multiply_f16
#import row_by_memory
#import attention_by_invocations
