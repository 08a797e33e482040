// Layer normalisation on any adapter.

#import sum_by_memory
#import layer_norm_rows
