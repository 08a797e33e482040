// A cell is what is read or written at once: one element here, so that sizes can be anything. Arithmetic goes through
// vec4<f32> in both widths; here three of its lanes are idle.
const WIDTH = 1u;
alias cell = elem;

fn widen(x: cell) -> vec4<f32> {
    return vec4<f32>(f32(x), 0.0, 0.0, 0.0);
}

fn narrow(x: vec4<f32>) -> cell {
    return elem(x.x);
}

// Puts a cell that begins at lane `i` into four lanes.
fn put(quad: ptr<function, vec4<f32>>, i: u32, x: cell) {
    (*quad)[i] = f32(x);
}

// The cell that begins at lane `i` of four.
fn pick(quad: vec4<f32>, i: u32) -> cell {
    return elem(quad[i]);
}

