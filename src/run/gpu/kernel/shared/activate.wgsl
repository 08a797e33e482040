// The non-linearities. Exponents are held below where f32 overflows, since a compiler may assume that there is no
// infinity; beyond that the result is what it is at the bound, to the last bit.

const ACTIVATION_NONE = 0u;
const ACTIVATION_SILU = 1u;
const ACTIVATION_GELU = 2u;
const ACTIVATION_QUICK_GELU = 3u;
const ACTIVATION_RELU = 4u;
const ACTIVATION_TANH = 5u;

fn silu(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + exp(min(-x, vec4<f32>(87.0))));
}

// Abramowitz and Stegun 7.1.26: the absolute error is below 2e-7.
fn erf(x: vec4<f32>) -> vec4<f32> {
    let a = min(abs(x), vec4<f32>(9.0));
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - p * exp(-a * a));
}

fn gelu(x: vec4<f32>) -> vec4<f32> {
    return 0.5 * x * (1.0 + erf(x * 0.7071067811865476));
}

fn quick_gelu(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + exp(min(-1.702 * x, vec4<f32>(87.0))));
}

// A select and not a max, which may turn a NaN into 0.
fn relu(x: vec4<f32>) -> vec4<f32> {
    return select(x, vec4<f32>(), x < vec4<f32>());
}

fn activate(kind: u32, x: vec4<f32>) -> vec4<f32> {
    switch kind {
        case ACTIVATION_SILU: { return silu(x); }
        case ACTIVATION_GELU: { return gelu(x); }
        case ACTIVATION_QUICK_GELU: { return quick_gelu(x); }
        case ACTIVATION_RELU: { return relu(x); }
        case ACTIVATION_TANH: { return tanh(clamp(x, vec4<f32>(-10.0), vec4<f32>(10.0))); }
        default: { return x; }
    }
}
