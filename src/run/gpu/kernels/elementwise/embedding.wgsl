// One invocation copies one value of a row. A workgroup covers 256 of them.

#import linear_group

// Each row has that of its position added.
override has_positions: bool = false;
// The table is f32, not f16.
override table_is_f32: bool = false;

struct Params {
    // Values of the result.
    n_values: u32,
    // Values of a row.
    columns: u32,
    // Rows of the table.
    n_rows: u32,
    // Values of all positions; the first id stands at the first of them.
    n_position_values: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>; // [ids]
@group(0) @binding(2) var<storage, read> table: array<u32>; // [N,D], two f16 or one f32 a word
@group(0) @binding(3) var<storage, read_write> out: array<cell>; // [ids,D]
@group(0) @binding(4) var<storage, read> positions: array<f32>; // [T,D]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i < params.n_values {
        let row = min(ids[i / params.columns], params.n_rows - 1u);
        let at = row * params.columns + i % params.columns;
        var value: f32;
        if table_is_f32 {
            value = bitcast<f32>(table[at]);
        } else {
            let pair = unpack2x16float(table[at / 2u]);
            value = select(pair.x, pair.y, at % 2u == 1u);
        }
        if has_positions {
            value += positions[i % params.n_position_values];
        }
        out[i] = narrow(vec4<f32>(value));
    }
}
