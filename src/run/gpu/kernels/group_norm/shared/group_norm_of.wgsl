// What normalises the channels of one cell. The importing file declares `joined`, with mean and one over the standard
// deviation of each group of the slab, and the norm's `weight` and `bias`.

struct Norm {
    mean: vec4<f32>,
    scale: vec4<f32>,
    shift: vec4<f32>,
}

// Of the cell that begins at a channel of the slab.
fn norm_of(part: Part, channel: u32) -> Norm {
    var norm = Norm();
    for (var i = 0u; i < WIDTH; i++) {
        let of_group = joined[(channel + i) / (part.n_channels / part.n_groups)];
        norm.mean[i] = of_group.x;
        norm.scale[i] = of_group.y * weight[part.first_channel + channel + i];
        norm.shift[i] = bias[part.first_channel + channel + i];
    }
    return norm;
}
