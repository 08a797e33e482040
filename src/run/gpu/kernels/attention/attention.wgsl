// Attention that multiplies in f32.

#import multiply_f32
#import row_by_memory
#import attention_by_invocations
