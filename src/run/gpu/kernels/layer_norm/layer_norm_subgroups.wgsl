// Layer normalisation with subgroup operations.

#import sum_by_subgroup
#import layer_norm_rows
