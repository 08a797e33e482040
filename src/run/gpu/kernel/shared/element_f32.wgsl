// Activations in f32. Weights are f16 all the same, four packed into two words.
alias elem = f32;
alias half4 = vec2<u32>;

fn widen_half4(x: half4) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(x.x), unpack2x16float(x.y));
}

