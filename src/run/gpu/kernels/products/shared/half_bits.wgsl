// Numbers of 16 bits to f32 and back, without shader-f16.

// The number that 16 bits stand for. Written out, because devices may take subnormal numbers for zero.
fn widen_bits(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let rest = bits & 0x7fffu;
    if rest < 0x400u {
        let value = f32(rest) * (1.0 / 16777216.0);
        return select(value, -value, sign != 0u);
    }
    return bitcast<f32>(sign | ((rest << 13u) + 0x38000000u));
}

// The nearest f16's bits, ties to even, infinity beyond the largest. Written out, because devices may round otherwise.
fn narrow_bits(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let sign = (bits >> 16u) & 0x8000u;
    let rest = bits & 0x7fffffffu;
    if rest >= 0x47800000u {
        return sign | select(0x7c00u, 0x7e00u, rest > 0x7f800000u);
    }
    if rest < 0x38800000u {
        return sign | u32(round(abs(value) * 16777216.0));
    }
    return sign | ((rest - 0x38000000u + 0xfffu + ((rest >> 13u) & 1u)) >> 13u);
}
