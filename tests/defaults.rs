//! What is drawn where a request is silent: every door asks `ModelConfigs::defaults`, so this is the one place to look.
#![cfg(not(target_arch = "wasm32"))]

use darkroom::hub::memory::MemoryFiles;
use darkroom::hub::published::Published;
use darkroom::hub::{ModelFile, Source};
use darkroom::model::SDVersion;
use darkroom::pipeline::ModelConfigs;
use darkroom::request::{Defaults, Request};
use serde_json::{Value, json};

/// A version's published configs; `edits` are files with the keys that are changed in them.
fn configs(version: SDVersion, edits: &[(&str, Value)]) -> ModelConfigs {
    pollster::block_on(async {
        let published = Published::new(version);
        let mut listed: Vec<ModelFile> = published.list().await.unwrap();
        // A published vocabulary has its merges, too, which are listed nowhere.
        let merges: Vec<ModelFile> = listed
            .iter()
            .filter(|file| file.path.ends_with("vocab.json"))
            .map(|file| ModelFile { path: file.path.replace("vocab.json", "merges.txt"), ..file.clone() })
            .collect();
        listed.extend(merges);
        let mut source = MemoryFiles::new("test");
        for file in &listed {
            let Ok(mut text) = published.read_text(&file.path).await else { continue };
            if let Some((_, edit)) = edits.iter().find(|(path, _)| *path == file.path) {
                let mut json: Value = serde_json::from_str(&text).unwrap();
                for (key, value) in edit.as_object().unwrap() {
                    json[key] = value.clone();
                }
                text = json.to_string();
            }
            source = source.with(file.path.clone(), text.into_bytes());
        }
        ModelConfigs::read(&source, &listed).await.unwrap()
    })
}

fn scheduler(version: SDVersion, class: &str, spacing: &str, prediction: &str) -> Defaults {
    let config = json!({ "_class_name": class, "timestep_spacing": spacing, "prediction_type": prediction });
    let index = json!({ "scheduler": ["diffusers", class] });
    configs(version, &[("scheduler/scheduler_config.json", config), ("model_index.json", index)]).defaults(None)
}

#[test]
fn the_seven_versions_have_their_own() {
    for version in SDVersion::ALL {
        let own = configs(version, &[]).defaults(None);
        let named = configs(version, &[]).defaults(Some(version));
        assert_eq!(own, named, "{version}: opened as a folder it draws as by its name");
        assert_eq!(own, Defaults::of(version), "{version}");
    }
}

#[test]
fn few_steps_are_for_models_that_were_distilled_to_them() {
    const ANCESTRAL: &str = "EulerAncestralDiscreteScheduler";
    const EULER: &str = "EulerDiscreteScheduler";
    let of = |version, class, spacing, prediction| {
        let defaults = scheduler(version, class, spacing, prediction);
        (defaults.version, defaults.steps, defaults.guidance_scale)
    };
    // An XL fine-tune saved with Euler a is no Turbo; Turbo and Lightning begin at the last timestep.
    assert_eq!(of(SDVersion::Xl, ANCESTRAL, "leading", "epsilon"), (SDVersion::Xl, 20, 7.5));
    assert_eq!(of(SDVersion::Turbo, ANCESTRAL, "leading", "epsilon"), (SDVersion::Xl, 20, 7.5));
    assert_eq!(of(SDVersion::Xl, ANCESTRAL, "trailing", "epsilon"), (SDVersion::Turbo, 4, 0.0));
    assert_eq!(of(SDVersion::Xl, EULER, "trailing", "epsilon"), (SDVersion::Turbo, 4, 0.0));
    // Models with a schedule that ends in noise begin there, too.
    assert_eq!(of(SDVersion::Xl, EULER, "trailing", "v_prediction"), (SDVersion::Xl, 20, 7.5));
    // sd-turbo is SD 2 in shape; LCM comes in all shapes.
    let turbo = configs(
        SDVersion::V2_1,
        &[
            (
                "scheduler/scheduler_config.json",
                json!({ "_class_name": EULER, "timestep_spacing": "trailing", "prediction_type": "epsilon" }),
            ),
            ("model_index.json", json!({ "scheduler": ["diffusers", EULER] })),
            ("unet/config.json", json!({ "sample_size": 64 })),
        ],
    )
    .defaults(None);
    assert_eq!((turbo.version, turbo.size, turbo.steps, turbo.guidance_scale), (SDVersion::V2_1, (512, 512), 4, 0.0));
    assert_eq!(of(SDVersion::V1_5, "LCMScheduler", "leading", "epsilon"), (SDVersion::V1_5, 4, 1.0));
    assert_eq!(of(SDVersion::V1_5, EULER, "leading", "epsilon"), (SDVersion::V1_5, 20, 7.5));
}

#[test]
fn what_was_asked_for_wins() {
    let defaults = configs(SDVersion::Turbo, &[]).defaults(None);
    let asked = Request { steps: Some(9), guidance_scale: Some(2.0), width: Some(640), ..Request::default() };
    let config = asked.resolve(&defaults, None, false, 1).unwrap();
    assert_eq!((config.width, config.height, config.steps, config.guidance_scale), (640, 512, 9, 2.0));
}
