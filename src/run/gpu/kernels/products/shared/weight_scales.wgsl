// The scales of a packed weight in blocks of 32 rows. They lie behind the codes, [K/32,N/4], four f16 in two words each, and
// are stored times 1024.

fn scales_at(row: u32, quad: u32, n_quads: u32) -> vec4<f32> {
    let at = params.first_scale + (row / 32u * n_quads + quad) * 2u;
    return vec4<f32>(unpack2x16float(weight[at]), unpack2x16float(weight[at + 1u])) * (1.0 / 1024.0);
}
