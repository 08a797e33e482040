// Activations in f16, for adapters with shader-f16. Weights are read as what they are.
enable f16;
alias elem = f16;
alias half4 = vec4<f16>;

fn widen_half4(x: half4) -> vec4<f32> {
    return vec4<f32>(x);
}

