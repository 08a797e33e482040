// Packing in blocks: one invocation has 32 rows of four neighbouring outputs, whose codes share a scale for each output. A
// workgroup covers 256 such blocks. The importing file says what a scale is and how codes are stored.

#import repack

@group(0) @binding(2) var<storage, read_write> packed: array<u32>; // codes by rows, then scales: two words for four outputs

// What scales are multiplied with before they are rounded.
const SCALE_FACTOR = 1024.0;

// The blocks keep the scales that they were uploaded with.
override keeps_scales: bool = false;

// The f16 of the scales that the blocks of four outputs have.
fn scales_of_raw(output: u32, row: u32) -> vec4<u32> {
    var scales: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        if output + i < params.n_outputs {
            scales[i] = scale_at(place_of(output + i, row));
        }
    }
    return f16_of(scales * SCALE_FACTOR);
}

fn f16_of(values: vec4<f32>) -> vec4<u32> {
    return vec4<u32>(narrow_bits(values.x), narrow_bits(values.y), narrow_bits(values.z), narrow_bits(values.w));
}

fn f32_of(halves: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(widen_bits(halves.x), widen_bits(halves.y), widen_bits(halves.z), widen_bits(halves.w));
}

// What to divide by.
fn not_zero(scales: vec4<f32>) -> vec4<f32> {
    return select(scales, vec4<f32>(1.0), scales == vec4<f32>());
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = linear_group(group, n_groups) * 256u + lane;
    let block = item / params.n_quads;
    let quad = item % params.n_quads;
    let first_row = block * 32u;
    if first_row >= n_rows() {
        return;
    }
    let output = params.first_output + quad * 4u;
    let place = packed_quad(quad);
    let end = min(first_row + 32u, n_rows());

    var halves: vec4<u32>;
    if keeps_scales {
        halves = scales_of_raw(output, first_row);
    } else {
        // The first of several that are equally large.
        var largest = vec4<f32>();
        for (var row = first_row; row < end; row++) {
            let values = values_of(output, row);
            largest = select(largest, values, abs(values) > abs(largest));
        }
        halves = scales_for(largest, output, vec2<u32>(first_row, end));
    }
    let scales = f32_of(halves) * (1.0 / SCALE_FACTOR);
    let at = params.first_scale + (block * params.n_quads_packed + place) * 2u;
    packed[at] = halves.x | (halves.y << 16u);
    packed[at + 1u] = halves.z | (halves.w << 16u);

    // Blocks of zeros have codes of zero.
    let divisors = not_zero(scales);
    for (var row = first_row; row < end; row += ROWS_OF_A_WORD) {
        var word = codes_of(values_of(output, row), divisors);
        if ROWS_OF_A_WORD == 2u && row + 1u < end {
            word |= codes_of(values_of(output, row + 1u), divisors) << 16u;
        }
        packed[row / ROWS_OF_A_WORD * params.n_quads_packed + place] = word;
    }
}
