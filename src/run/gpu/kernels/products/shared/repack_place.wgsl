// What everything that packs weights has in common: the parameters, what was uploaded, and where four outputs go.

#import linear_group

// The first half of the outputs are values, the second half their gates, to be interleaved by fours.
override geglu: bool = false;

struct Params {
    // The weight is [n_outputs, n_inputs, n_taps].
    n_outputs: u32,
    n_inputs: u32,
    n_taps: u32,
    // The outputs that were uploaded: the first, a multiple of four, and how many fours.
    first_output: u32,
    n_quads: u32,
    // Where the weight's first four outputs lie in a row of the packed matrix, which may hold other weights too.
    first_quad: u32,
    n_quads_packed: u32,
    // The first word of the scales of a quantised matrix.
    first_scale: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> raw: array<u32>; // [outputs,I,taps], two f16 or one f32 a word

// Where four uploaded outputs lie in a row of the packed matrix.
fn packed_quad(quad: u32) -> u32 {
    let own = params.first_output / 4u + quad;
    if geglu {
        let half = params.n_outputs / 8u;
        return params.first_quad + select(own * 2u, (own - half) * 2u + 1u, own >= half);
    }
    return params.first_quad + own;
}
