// `repack` of f16 to f16 where the inputs are even in number. One invocation packs four neighbouring outputs of two
// neighbouring inputs, all taps, and so reads whole words. A workgroup covers 256 such pairs.

#import repack_place

@group(0) @binding(2) var<storage, read_write> packed: array<vec2<u32>>; // [taps,I,columns/4], four f16 each

// The word at a place of the `i`th of the uploaded outputs; zero beyond the last.
fn word_at(i: u32, words_of_output: u32, at: u32) -> u32 {
    if params.first_output + i < params.n_outputs {
        return raw[i * words_of_output + at];
    }
    return 0u;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = linear_group(group, n_groups) * 256u + lane;
    let pair = item / params.n_quads;
    let quad = item % params.n_quads;
    if pair * 2u >= params.n_inputs {
        return;
    }
    let place = packed_quad(quad);
    let words_of_output = params.n_inputs / 2u * params.n_taps;
    for (var i = 0u; i < params.n_taps; i++) {
        // Two values that lie side by side in every output: of two taps of an input, or of the same tap.
        let at = pair * params.n_taps + i;
        let words = vec4<u32>(
            word_at(quad * 4u, words_of_output, at),
            word_at(quad * 4u + 1u, words_of_output, at),
            word_at(quad * 4u + 2u, words_of_output, at),
            word_at(quad * 4u + 3u, words_of_output, at),
        );
        pack_row(pair, i * 2u, place, (words.xz & vec2<u32>(0xffffu)) | (words.yw << vec2<u32>(16u)));
        pack_row(pair, i * 2u + 1u, place, (words.xz >> vec2<u32>(16u)) | (words.yw & vec2<u32>(0xffff0000u)));
    }
}

// Writes the `i`th values of a pair of inputs: those of the first input, then those of the second.
fn pack_row(pair: u32, i: u32, place: u32, halves: vec2<u32>) {
    let is_second = i >= params.n_taps;
    let tap = select(i, i - params.n_taps, is_second);
    let row = tap * params.n_inputs + pair * 2u + select(0u, 1u, is_second);
    packed[row * params.n_quads_packed + place] = halves;
}
