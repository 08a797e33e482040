//! How far apart two pictures are.

use std::path::Path;

use serde_json::json;

use crate::{Options, Outcome};

/// Fails where they are more than `allowed` levels apart, and tells the first place.
pub fn run(options: &Options, a: &Path, b: &Path, allowed: u8) -> Outcome<()> {
    let [x, y] = [a, b].map(|path| image::open(path).map(image::DynamicImage::into_rgb8));
    let (x, y) = (x?, y?);
    if x.dimensions() != y.dimensions() {
        return Err(format!("{:?} and {:?} are not the same size", x.dimensions(), y.dimensions()).into());
    }
    let levels: Vec<u8> = x.as_raw().iter().zip(y.as_raw()).map(|(x, y)| x.abs_diff(*y)).collect();
    let most = levels.iter().copied().max().unwrap_or(0);
    let mean = levels.iter().map(|level| f64::from(*level)).sum::<f64>() / levels.len().max(1) as f64;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    println!("{} and {}: at most {most} levels apart, {mean:.3} on average", name(a), name(b));
    options.rows.add("pictures", json!({ "a": name(a), "b": name(b), "max_level": most, "mean_level": mean }));
    if let Some(first) = levels.iter().position(|level| *level > allowed) {
        let pixel = (first / 3) as u32;
        let place = [pixel % x.width(), pixel / x.width()];
        return Err(format!("the pixel at {place:?} is {} levels off, more than {allowed}", levels[first]).into());
    }
    Ok(())
}
