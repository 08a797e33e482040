// One workgroup normalises all pixels of a batch item for a slab of whole groups.

#import linear_group
#import group_norm_whole
#import group_norm_sources

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source_0: array<cell>; // [B,H,W,C0]
@group(0) @binding(2) var<storage, read_write> source_1: array<cell>; // [B,H,W,C1]
@group(0) @binding(3) var<storage, read> weight: array<f32>; // [C0+C1]
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [C0+C1]
@group(0) @binding(5) var<storage, read_write> out: array<cell>; // [B,H,W,C0+C1]

fn first_read(item: u32, pixel: u32, channel: u32) -> vec4<f32> {
    return read_sources(item, pixel, channel);
}

fn second_read(item: u32, pixel: u32, channel: u32) -> vec4<f32> {
    return read_sources(item, pixel, channel);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = linear_group(group, n_groups);
    if number < params.n_workgroups {
        normalise(number, lane);
    }
}
