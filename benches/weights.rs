//! A UNet step with weights in f16, q8_0, q4_0 and f32 on this machine's GPU, in turn: `./build.sh bench weights`. On a
//! software adapter SD 1.5's topology at a fifth of its width, and one level of its own; on a GPU SD 1.5 and XL.

#[path = "card/models.rs"]
#[expect(dead_code, reason = "PyTorch has no part in it")]
mod models;
#[path = "common/report.rs"]
mod report;
#[path = "common/weight_types.rs"]
mod weight_types;

use darkroom::run::gpu::{Element, Gpu};
use models::model;
use report::{Report, is_wanted, n_rounds};
use serde_json::json;

/// Any error; each is printed.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    pollster::block_on(run())
}

async fn run() -> Outcome<()> {
    let mut report = Report::start("weights");
    let caps = Gpu::open().await?.caps;
    report.adapter(&format!("{} ({})", caps.name, caps.backend), caps.software);
    let names: &[&str] = if caps.software { &["narrow-unet", "sd15-unet-256"] } else { &["sd15-unet", "xl-unet"] };
    let element = if std::env::var_os("DARKROOM_F16").is_some() { Element::F16 } else { Element::F32 };
    for name in names.iter().filter(|name| is_wanted(name)) {
        let model = model(name)?;
        println!("{name}: {}, {element:?}", model.what);
        let n = n_rounds(3);
        let rows =
            weight_types::compare(&model.case, element, async || Gpu::open().await, |_, round| round < n).await?;
        report.row(json!({ "what": name, "element": format!("{element:?}"), "types": rows }));
    }
    report.finish();
    Ok(())
}
