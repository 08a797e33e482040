// The values of a weight as they were uploaded.

#import repack_place
#import half_bits

// What was uploaded is f32, not f16.
override raw_is_f32: bool = false;
// Or blocks of a GGUF file: f16 scale and 32 codes of 8 bits, or of 4 bits plus 8, the first sixteen in the lower halves of
// bytes. Their bits of a code; 0 for plain numbers.
override raw_code_bits: u32 = 0u;

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
