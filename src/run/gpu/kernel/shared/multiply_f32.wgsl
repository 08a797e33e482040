// Products in f32; `multiply_f16` has the same names.

// Four factors in workgroup memory.
alias factors = vec4<f32>;
// Four sums of a few products, before they are added to those of f32.
alias part_sums = vec4<f32>;

fn factors_of(x: vec4<f32>) -> factors {
    return x;
}

// Adds four products to each of four sums, one after the other.
fn add_products(sums: part_sums, a: factors, w0: factors, w1: factors, w2: factors, w3: factors) -> part_sums {
    return fma(vec4<f32>(a.w), w3, fma(vec4<f32>(a.z), w2, fma(vec4<f32>(a.y), w1, fma(vec4<f32>(a.x), w0, sums))));
}

// The same for sums that are kept in f32.
fn add_to_sums(sums: vec4<f32>, a: factors, w0: factors, w1: factors, w2: factors, w3: factors) -> vec4<f32> {
    return add_products(sums, a, w0, w1, w2, w3);
}

// Adds four products to a sum, one after the other.
fn add_dot(sum: f32, a: factors, b: factors) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// The sums in f32 with those of a few products, and what these go on from. Here they are the only ones.
fn collected(sums: vec4<f32>, parts: part_sums) -> vec4<f32> {
    return sums;
}

fn after_collecting(parts: part_sums) -> part_sums {
    return parts;
}

// What the sums are in the end.
fn total(sums: vec4<f32>, parts: part_sums) -> vec4<f32> {
    return parts;
}
