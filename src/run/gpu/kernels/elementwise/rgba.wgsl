// One invocation converts one pixel. A workgroup covers 256 of them.

#import linear_group

struct Params {
    // Of the result.
    n_pixels: u32,
    channels: u32,
    // Pixels of a row of the result, and of one of the input.
    out_w: u32,
    in_w: u32,
    // Every how manieth pixel is taken.
    step: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
    // Weights of the first four channels in each colour.
    red: vec4<f32>,
    green: vec4<f32>,
    blue: vec4<f32>,
    // What is added to red, green and blue.
    constant: vec4<f32>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<cell>; // [H,W,C]
@group(0) @binding(2) var<storage, read_write> out: array<u32>; // [pixels]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i >= params.n_pixels {
        return;
    }
    let at = (i / params.out_w * params.in_w + i % params.out_w) * params.step;
    var pixel = vec4<f32>();
    for (var c = 0u; c < min(params.channels, 4u); c++) {
        pixel[c] = widen(x[at * params.channels + c]).x;
    }
    let colour = vec3<f32>(dot(pixel, params.red), dot(pixel, params.green), dot(pixel, params.blue));
    let level = vec3<u32>(round(clamp(colour + params.constant.xyz, vec3<f32>(0.0), vec3<f32>(1.0)) * 255.0));
    out[i] = level.r | (level.g << 8u) | (level.b << 16u) | 0xff000000u;
}
