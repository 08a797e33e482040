// What packs weights has in common: the parameters, the values as they were uploaded, and where four outputs go.

#import linear_group

// What was uploaded is f32, not f16.
override raw_is_f32: bool = false;
// Or blocks of a GGUF file: f16 scale and 32 codes of 8 bits, or of 4 bits plus 8, the first sixteen in the lower halves of
// bytes. Their bits of a code; 0 for plain numbers.
override raw_code_bits: u32 = 0u;
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

// Rows of the packed matrix.
fn n_rows() -> u32 {
    return params.n_taps * params.n_inputs;
}

// Where the value of an output for a row of the packed matrix is in what was uploaded.
fn place_of(output: u32, row: u32) -> u32 {
    let tap = row / params.n_inputs;
    let input = row % params.n_inputs;
    return ((output - params.first_output) * params.n_inputs + input) * params.n_taps + tap;
}

fn byte_at(place: u32) -> u32 {
    return (raw[place / 4u] >> (place % 4u * 8u)) & 0xffu;
}

// The first byte of the block of a value.
fn block_at(place: u32) -> u32 {
    return place / 32u * (2u + raw_code_bits * 4u);
}

// The scale of the block of a value.
fn scale_at(place: u32) -> f32 {
    let at = block_at(place);
    return widen_bits(byte_at(at) | (byte_at(at + 1u) << 8u));
}

fn code_at(place: u32) -> i32 {
    let codes = block_at(place) + 2u;
    let i = place % 32u;
    if raw_code_bits == 8u {
        return extractBits(i32(byte_at(codes + i)), 0u, 8u);
    }
    return i32((byte_at(codes + i % 16u) >> (i / 16u * 4u)) & 0xfu) - 8;
}

fn half_bits_at(place: u32) -> u32 {
    return (raw[place / 2u] >> (place % 2u * 16u)) & 0xffffu;
}

// The number that 16 bits stand for. Written out, because devices may take subnormal numbers for zero.
fn widen_bits(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let rest = bits & 0x7fffu;
    if rest < 0x400u {
        let value = f32(rest) * (1.0 / 16777216.0);
        return select(value, -value, sign != 0u);
    }
    return bitcast<f32>(sign | ((rest << 13u) + 0x38000000u));
}

// The nearest f16's bits, ties to even, infinity beyond the largest. Written out, because devices may round otherwise.
fn narrow_bits(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let sign = (bits >> 16u) & 0x8000u;
    let rest = bits & 0x7fffffffu;
    if rest >= 0x47800000u {
        return sign | select(0x7c00u, 0x7e00u, rest > 0x7f800000u);
    }
    if rest < 0x38800000u {
        return sign | u32(round(abs(value) * 16777216.0));
    }
    return sign | ((rest - 0x38000000u + 0xfffu + ((rest >> 13u) & 1u)) >> 13u);
}

// One value, zero beyond the last output.
fn value_of(output: u32, row: u32) -> f32 {
    if output >= params.n_outputs {
        return 0.0;
    }
    let place = place_of(output, row);
    if raw_code_bits != 0u {
        return scale_at(place) * f32(code_at(place));
    }
    if raw_is_f32 {
        return bitcast<f32>(raw[place]);
    }
    return widen_bits(half_bits_at(place));
}

// The values of four outputs, from `output` on, for a row.
fn values_of(output: u32, row: u32) -> vec4<f32> {
    return vec4<f32>(
        value_of(output, row),
        value_of(output + 1u, row),
        value_of(output + 2u, row),
        value_of(output + 3u, row),
    );
}

// Where four uploaded outputs lie in a row of the packed matrix.
fn packed_quad(quad: u32) -> u32 {
    let own = params.first_output / 4u + quad;
    if geglu {
        let half = params.n_outputs / 8u;
        return params.first_quad + select(own * 2u, (own - half) * 2u + 1u, own >= half);
    }
    return params.first_quad + own;
}
