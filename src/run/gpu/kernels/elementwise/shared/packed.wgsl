// Four values in eight bytes: the exponent of the largest, which all share, and 14 bits of each.

// Fields of exponents: that of the largest value and that of what brings it to 13 bits add up to it.
const EXPONENTS = 266u;

// The exponent's field of the largest of four: at least 13, so that what scales it is a number; 255 where one is not finite.
fn shared_exponent(x: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu);
    let most = max(max(bits.x, bits.y), max(bits.z, bits.w));
    return max(most >> 23u, 13u);
}

// Four values as whole numbers from -8191 to 8191 at a shared exponent that is finite.
fn shared_numbers(x: vec4<f32>, exponent: u32) -> vec4<i32> {
    let scale = bitcast<f32>((EXPONENTS - exponent) << 23u);
    return clamp(vec4<i32>(round(x * scale)), vec4<i32>(-8191), vec4<i32>(8191));
}

fn pack(x: vec4<f32>) -> vec2<u32> {
    let exponent = shared_exponent(x);
    var numbers = vec4<u32>();
    if exponent < 255u {
        numbers = bitcast<vec4<u32>>(shared_numbers(x, exponent)) & vec4<u32>(0x3fffu);
    }
    let low = numbers.xz | (numbers.yw << vec2<u32>(14u));
    return low | (vec2<u32>(exponent & 15u, exponent >> 4u) << vec2<u32>(28u));
}

fn unpack(packed: vec2<u32>) -> vec4<f32> {
    let exponent = (packed.x >> 28u) | ((packed.y >> 28u) << 4u);
    if exponent == 255u {
        // NaN, which a constant must not be.
        return vec4<f32>(bitcast<f32>((exponent << 23u) | 0x400000u));
    }
    // Up and down again, so that the sign is that of the highest of 14 bits.
    let low = bitcast<vec2<i32>>(packed << vec2<u32>(18u)) >> vec2<u32>(18u);
    let high = bitcast<vec2<i32>>(packed << vec2<u32>(4u)) >> vec2<u32>(18u);
    let scale = bitcast<f32>((exponent - 12u) << 23u);
    return vec4<f32>(vec4<i32>(low.x, high.x, low.y, high.y)) * scale;
}
