// A cell is what is read or written at once: four elements here, so rows have to be multiples of four.
const WIDTH = 4u;
alias cell = vec4<elem>;

fn widen(x: cell) -> vec4<f32> {
    return vec4<f32>(x);
}

fn narrow(x: vec4<f32>) -> cell {
    return cell(x);
}

// Puts a cell that begins at lane `i` into four lanes; `i` can only be 0.
fn put(quad: ptr<function, vec4<f32>>, i: u32, x: cell) {
    *quad = vec4<f32>(x);
}

// The cell that begins at lane `i` of four; `i` can only be 0.
fn pick(quad: vec4<f32>, i: u32) -> cell {
    return cell(quad);
}

