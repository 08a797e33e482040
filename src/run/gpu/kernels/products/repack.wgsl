// One invocation packs four neighbouring outputs of one tap and one input of a weight, in f16. A workgroup covers 256 of
// them.

#import repack

@group(0) @binding(2) var<storage, read_write> packed: array<vec2<u32>>; // [taps,I,columns/4], four f16 each

// The f16 of one output in the low half of a word; zero beyond the last output.
fn bits_of(output: u32, row: u32) -> u32 {
    if output < params.n_outputs && !raw_is_f32 && raw_code_bits == 0u {
        return half_bits_at(place_of(output, row));
    }
    return narrow_bits(value_of(output, row));
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = linear_group(group, n_groups) * 256u + lane;
    let row = item / params.n_quads;
    let quad = item % params.n_quads;
    if row >= n_rows() {
        return;
    }
    var halves: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        halves[i] = bits_of(params.first_output + quad * 4u + i, row);
    }
    packed[row * params.n_quads_packed + packed_quad(quad)] =
        vec2<u32>(halves.x | (halves.y << 16u), halves.z | (halves.w << 16u));
}
