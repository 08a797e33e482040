//! Graphs of many forms, and what is found in them.

use serde_json::json;

use super::*;

fn found(graph: &Value) -> Found {
    read(&[("prompt".to_owned(), graph.to_string())]).unwrap()
}

fn usual() -> Value {
    json!({
        "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 25, "cfg": 6.5, "sampler_name": "euler",
            "scheduler": "normal", "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
            "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15/paint.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640, "height": 448, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog, embedding:bad_hands", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["10", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}},
        "10": {"class_type": "VAELoader", "inputs": {"vae_name": "mse.safetensors"}},
    })
}

#[test]
fn the_usual_graph_is_read() {
    let found = found(&usual());
    let settings = &found.settings;
    assert_eq!((settings.seed, settings.steps, settings.guidance_scale), (Some(7), Some(25), Some(6.5)));
    assert_eq!((settings.width, settings.height, settings.noise), (Some(640), Some(448), Some(Noise::Cpu)));
    assert_eq!((settings.prompt.as_deref(), settings.strength), (Some("a castle"), None));
    assert_eq!(settings.model.as_deref(), Some("sd15/paint.safetensors"));
    assert_eq!((found.vae.as_deref(), found.embeddings[0].name.as_str()), (Some("mse.safetensors"), "bad_hands"));
    assert_eq!(found.notes, Vec::<String>::new());
}

/// Each case changes the usual graph.
#[test]
fn other_nodes_lead_to_the_same() {
    type Check = fn(&Found) -> bool;
    let cases: [(&str, Value, Check); 14] = [
        (
            "LoRAs in a chain",
            json!({
                "3": {"model": ["20", 0]},
                "20": {"class_type": "LoraLoader", "inputs": {"lora_name": "a\\ink.safetensors", "strength_model": 0.7,
                    "strength_clip": 0.5, "model": ["21", 0], "clip": ["21", 1]}},
                "21": {"class_type": "LoraLoaderModelOnly", "inputs": {"lora_name": "fast.safetensors",
                    "strength_model": 1.0, "model": ["4", 0]}},
            }),
            |found| {
                let [fast, ink] = &found.settings.loras[..] else { return false };
                fast.name == "fast"
                    && fast.text_strength == Some(0.0)
                    && ink.name == "ink"
                    && ink.strength == 0.7
                    && ink.text_strength == Some(0.5)
                    && found.settings.model.is_some()
                    && found.notes.is_empty()
            },
        ),
        (
            "a stack of LoRAs",
            json!({
                "3": {"model": ["20", 0]},
                "20": {"class_type": "Power Lora Loader (rgthree)", "inputs": {"model": ["4", 0], "clip": ["4", 1],
                    "lora_1": {"on": true, "lora": "one.safetensors", "strength": 0.4},
                    "lora_2": {"on": false, "lora": "two.safetensors", "strength": 1}}},
            }),
            |found| found.settings.loras.len() == 1 && found.settings.loras[0].strength == 0.4,
        ),
        (
            "an advanced sampler",
            json!({
                "3": {"class_type": "KSamplerAdvanced", "noise_seed": 9, "seed": null, "add_noise": "enable",
                    "start_at_step": 0, "end_at_step": 10000},
            }),
            |found| found.settings.seed == Some(9) && found.notes.is_empty(),
        ),
        (
            "a part of the steps",
            json!({
                "3": {"class_type": "KSamplerAdvanced", "start_at_step": 0, "end_at_step": 20},
            }),
            |found| found.notes == ["only its steps from 0 to 20 were done"],
        ),
        (
            "a custom sampler",
            json!({
                "3": {"class_type": "SamplerCustom", "steps": null, "sampler_name": null, "scheduler": null, "seed": null,
                    "noise_seed": 11, "sampler": ["30", 0], "sigmas": ["31", 0]},
                "30": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "dpmpp_2m"}},
                "31": {"class_type": "KarrasScheduler", "inputs": {"steps": 12, "sigma_max": 14.6, "sigma_min": 0.03, "rho": 7}},
            }),
            |found| {
                found.settings.steps == Some(12)
                    && found.settings.seed == Some(11)
                    && found.settings.sampler.as_deref() == Some("dpm++2m_karras")
            },
        ),
        (
            "an advanced custom sampler",
            json!({
                "3": {"class_type": "SamplerCustomAdvanced", "steps": null, "sampler_name": null, "scheduler": null,
                    "seed": null, "cfg": null, "positive": null, "negative": null, "model": null, "noise": ["32", 0],
                    "guider": ["33", 0], "sampler": ["30", 0], "sigmas": ["31", 0]},
                "30": {"class_type": "SamplerEulerAncestral", "inputs": {"eta": 1, "s_noise": 1}},
                "31": {"class_type": "BasicScheduler", "inputs": {"steps": 8, "scheduler": "simple", "denoise": 1, "model": ["4", 0]}},
                "32": {"class_type": "RandomNoise", "inputs": {"noise_seed": 12}},
                "33": {"class_type": "CFGGuider", "inputs": {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "cfg": 4}},
            }),
            |found| {
                found.settings.seed == Some(12)
                    && found.settings.steps == Some(8)
                    && found.settings.sampler.as_deref() == Some("euler_a")
                    && found.settings.guidance_scale == Some(4.0)
                    && found.settings.prompt.as_deref() == Some("a castle")
                    && found.settings.model.is_some()
            },
        ),
        (
            "texts and numbers from other nodes",
            json!({
                "3": {"seed": ["40", 3], "steps": ["41", 0]},
                "6": {"text": ["42", 0]},
                "40": {"class_type": "Seed (rgthree)", "inputs": {"seed": 13}},
                "41": {"class_type": "Reroute", "inputs": {"": ["43", 0]}},
                "42": {"class_type": "StringConcatenate", "inputs": {"string_a": "a castle", "string_b": ["44", 0], "delimiter": ", "}},
                "43": {"class_type": "PrimitiveInt", "inputs": {"value": 31}},
                "44": {"class_type": "ShowText|pysssss", "inputs": {"text": ["45", 0]}},
                "45": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "in the rain"}},
            }),
            |found| {
                found.settings.seed == Some(13)
                    && found.settings.steps == Some(31)
                    && found.settings.prompt.as_deref() == Some("a castle, in the rain")
            },
        ),
        (
            "XL's encoder",
            json!({
                "6": {"class_type": "CLIPTextEncodeSDXL", "text": null, "text_g": "a castle", "text_l": "stone", "width": 1024,
                    "height": 1024, "crop_w": 0, "crop_h": 8, "target_width": 640, "target_height": 448},
            }),
            |found| {
                found.settings.original_size == Some((1024, 1024))
                    && found.settings.crop == Some((0, 8))
                    && found.settings.prompt.as_deref() == Some("a castle")
                    && found.notes.len() == 1
            },
        ),
        (
            "layers that are left out",
            json!({
                "6": {"clip": ["50", 0]},
                "50": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["4", 1]}},
            }),
            |found| found.settings.clip_skip == Some(1),
        ),
        (
            "ControlNet",
            json!({
                "3": {"positive": ["60", 0], "negative": ["60", 1]},
                "60": {"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["6", 0], "negative": ["7", 0],
                    "control_net": ["61", 0], "image": ["62", 0], "strength": 1}},
            }),
            |found| {
                found.notes == ["ControlNet steered it, which is not done here (ControlNetApplyAdvanced)"]
                    && found.settings.prompt.as_deref() == Some("a castle")
                    && found.settings.negative_prompt.as_deref() == Some("fog, embedding:bad_hands")
            },
        ),
        (
            "a second pass",
            json!({
                "8": {"samples": ["70", 0]},
                "70": {"class_type": "KSampler", "inputs": {"seed": 99, "steps": 10, "cfg": 6.5, "sampler_name": "euler",
                    "scheduler": "normal", "denoise": 0.5, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
                    "latent_image": ["71", 0]}},
                "71": {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "scale_by": 1.5}},
            }),
            |found| {
                found.settings.seed == Some(7)
                    && found.settings.strength.is_none()
                    && found.notes.len() == 1
                    && found.notes[0].contains("hires fix")
            },
        ),
        (
            "from a picture",
            json!({
                "3": {"denoise": 0.5, "latent_image": ["80", 0]},
                "80": {"class_type": "VAEEncode", "inputs": {"pixels": ["81", 0], "vae": ["4", 2]}},
                "81": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
            }),
            |found| found.settings.strength == Some(0.5) && found.settings.steps == Some(50),
        ),
        (
            "a batch, and a model that is changed",
            json!({
                "3": {"model": ["90", 0]},
                "5": {"batch_size": 4},
                "90": {"class_type": "FreeU_V2", "inputs": {"model": ["91", 0], "b1": 1.3}},
                "91": {"class_type": "Wobble", "inputs": {"model": ["4", 0]}},
            }),
            |found| found.notes.len() == 3 && found.settings.model.is_some(),
        ),
        (
            "circles",
            json!({
                "3": {"model": ["20", 0], "positive": ["6", 0], "latent_image": ["21", 0], "seed": ["22", 0]},
                "6": {"text": ["23", 0]},
                "20": {"class_type": "Reroute", "inputs": {"": ["20", 0]}},
                "21": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0]}},
                "22": {"class_type": "PrimitiveInt", "inputs": {"value": ["22", 0]}},
                "23": {"class_type": "JoinStrings", "inputs": {"text1": ["23", 0], "text2": ["23", 0]}},
            }),
            |found| found.settings.seed.is_none() && found.settings.prompt.is_none() && found.settings.model.is_none(),
        ),
    ];
    for (name, changes, check) in cases {
        let mut graph = usual();
        for (id, change) in changes.as_object().unwrap() {
            if change.get("inputs").is_some() {
                graph[id] = change.clone();
                continue;
            }
            for (key, value) in change.as_object().unwrap() {
                match key.as_str() {
                    "class_type" => graph[id]["class_type"] = value.clone(),
                    _ if value.is_null() => drop(graph[id]["inputs"].as_object_mut().unwrap().remove(key)),
                    _ => graph[id]["inputs"][key] = value.clone(),
                }
            }
        }
        let found = found(&graph);
        assert!(check(&found), "{name}: {found:#?}");
    }
}

#[test]
fn what_cannot_be_followed_is_a_note() {
    for (id, key, value, note) in [
        ("6", "text", json!(["99", 0]), "its prompt cannot be followed through the graph"),
        ("7", "text", json!(["4", 0]), "its negative prompt cannot be followed through the graph"),
        ("3", "positive", json!(["99", 0]), "its prompt cannot be followed through the graph"),
        ("3", "negative", json!(["4", 0]), "its negative prompt cannot be followed through the graph"),
        ("3", "seed", json!(-1), "its seed -1 cannot be used here"),
        ("3", "seed", json!(["99", 0]), "its seed cannot be followed through the graph"),
        ("3", "steps", json!(1_000_000_000_000_u64), "its steps 1000000000000 cannot be used here"),
        ("3", "steps", json!("many"), "its steps \"many\" cannot be used here"),
        ("3", "cfg", json!({}), "its guidance scale {} cannot be used here"),
        ("3", "sampler_name", json!(5), "its sampler 5 cannot be used here"),
        ("3", "sampler_name", json!(["99", 0]), "its sampler cannot be followed through the graph"),
    ] {
        let mut graph = usual();
        graph[id]["inputs"][key] = value;
        assert_eq!(found(&graph).notes, [note], "{id} {key}");
    }
    let mut graph = usual();
    graph["6"]["inputs"]["text"] = json!(["20", 0]);
    graph["20"] = json!({"class_type": "Concat", "inputs": {"text_a": "a fox", "text_b": ["99", 0]}});
    let got = found(&graph);
    assert_eq!(got.settings.prompt.as_deref(), Some("a fox"));
    assert_eq!(got.notes, ["its prompt cannot be followed through the graph to its end"]);
    // Zeros have no text.
    let mut graph = usual();
    graph["7"] = json!({"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}});
    assert_eq!((found(&graph).settings.negative_prompt, found(&graph).notes), (None, Vec::new()));
}
