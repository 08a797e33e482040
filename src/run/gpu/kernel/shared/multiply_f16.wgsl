// Products in f16, a few of which are added in f16 too and all further in f32; `multiply_f32` has the same names.

// Four factors in workgroup memory.
alias factors = vec4<f16>;
// Four sums of a few products, before they are added to those of f32.
alias part_sums = vec4<f16>;

fn factors_of(x: vec4<f32>) -> factors {
    return factors(x);
}

// Adds four products to each of four sums, one after the other.
fn add_products(sums: part_sums, a: factors, w0: factors, w1: factors, w2: factors, w3: factors) -> part_sums {
    return fma(vec4<f16>(a.w), w3, fma(vec4<f16>(a.z), w2, fma(vec4<f16>(a.y), w1, fma(vec4<f16>(a.x), w0, sums))));
}

// The same for sums that are kept in f32: four products at a time are added in f16.
fn add_to_sums(sums: vec4<f32>, a: factors, w0: factors, w1: factors, w2: factors, w3: factors) -> vec4<f32> {
    return sums + vec4<f32>(add_products(part_sums(), a, w0, w1, w2, w3));
}

// Adds four products to a sum.
fn add_dot(sum: f32, a: factors, b: factors) -> f32 {
    return sum + f32(fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, a.x * b.x))));
}

// The sums in f32 with those of a few products, and what these go on from.
fn collected(sums: vec4<f32>, parts: part_sums) -> vec4<f32> {
    return sums + vec4<f32>(parts);
}

fn after_collecting(parts: part_sums) -> part_sums {
    return part_sums();
}

// What the sums are in the end.
fn total(sums: vec4<f32>, parts: part_sums) -> vec4<f32> {
    return sums;
}
