// One invocation packs four neighbouring outputs of one tap and one input of a weight. A workgroup covers 256 of them.

#import linear_group

// The checkpoint holds f32, not f16.
override raw_is_f32: bool = false;
// The first half of the outputs are values, the second half their gates, to be interleaved by fours.
override geglu: bool = false;

struct Params {
    // The weight is [n_outputs, n_inputs, n_taps].
    n_outputs: u32,
    n_inputs: u32,
    n_taps: u32,
    // Fours of outputs, and where the first lies in a row of the packed matrix, which may hold other weights too.
    n_quads: u32,
    first_quad: u32,
    n_quads_packed: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> raw: array<u32>; // [O,I,taps], two f16 or one f32 a word
@group(0) @binding(2) var<storage, read_write> packed: array<vec2<u32>>; // [taps,I,columns/4], four f16 each

// The f16 of one output in the low half of a word; zero beyond the last output.
fn half_of(output: u32, input: u32, tap: u32) -> u32 {
    if output >= params.n_outputs {
        return 0u;
    }
    let at = (output * params.n_inputs + input) * params.n_taps + tap;
    if raw_is_f32 {
        return pack2x16float(vec2<f32>(bitcast<f32>(raw[at]), 0.0));
    }
    return (raw[at / 2u] >> (at % 2u * 16u)) & 0xffffu;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = linear_group(group, n_groups) * 256u + lane;
    let k = item / params.n_quads;
    let quad = item % params.n_quads;
    if k >= params.n_taps * params.n_inputs {
        return;
    }
    let tap = k / params.n_inputs;
    let input = k % params.n_inputs;
    var first = quad * 4u;
    if geglu {
        first = quad / 2u * 4u + quad % 2u * (params.n_outputs / 2u);
    }
    var halves: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        halves[i] = half_of(first + i, input, tap);
    }
    packed[k * params.n_quads_packed + params.first_quad + quad] =
        vec2<u32>(halves.x | (halves.y << 16u), halves.z | (halves.w << 16u));
}
