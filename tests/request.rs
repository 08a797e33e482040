//! What may be asked for: every limit from both sides, and the versions' names and numbers.
#![cfg(not(target_arch = "wasm32"))]

use darkroom::model::version::SDVersion;
use darkroom::request::{Attention, LongPrompt, SDConfig, SideRule};
use darkroom::sampler::Sampler;

fn message<T: std::fmt::Debug>(result: darkroom::Result<T>) -> String {
    result.expect_err("this should be refused").to_string()
}

#[test]
fn defaults_of_every_version_are_valid() {
    for version in SDVersion::ALL {
        let config = SDConfig::new(version).with_prompt("a cat");
        config.validate().unwrap_or_else(|error| panic!("{version}: {error}"));
        assert_eq!((config.width, config.height), version.default_size());
        assert_eq!(config.sampler, None, "{version}: the checkpoint's own sampler is the default");
    }
}

#[test]
fn the_table_of_versions() {
    use SDVersion::*;
    // key, size, steps, guidance, XL, inpainting, multiple of the sides
    let table = [
        (V1_5, "v1-5", 512, 20, 7.5, false, false, 64),
        (V1_5Inpaint, "v1-5-inpaint", 512, 20, 7.5, false, true, 64),
        (V2_1, "v2-1", 768, 20, 7.5, false, false, 64),
        (V2Inpaint, "v2-inpaint", 512, 20, 7.5, false, true, 64),
        (Xl, "xl", 1024, 20, 7.5, true, false, 32),
        (XlInpaint, "xl-inpaint", 1024, 20, 7.5, true, true, 32),
        (Turbo, "turbo", 512, 4, 0.0, true, false, 32),
    ];
    assert_eq!(SDVersion::ALL.to_vec(), table.map(|row| row.0).to_vec());
    for (version, key, side, steps, guidance, xl, inpaint, multiple) in table {
        assert_eq!(version.key(), key);
        assert_eq!(version.to_string(), key);
        assert_eq!(version.default_size(), (side, side), "{key}");
        assert_eq!(version.default_steps(), steps, "{key}");
        assert_eq!(version.default_guidance_scale(), guidance, "{key}");
        assert_eq!(version.is_xl(), xl, "{key}");
        assert_eq!(version.is_inpaint(), inpaint, "{key}");
        assert_eq!(version.is_turbo(), version == Turbo);
        assert_eq!(version.multiple_of(), multiple, "{key}");
        assert_eq!(version.repositories().next(), Some(version.repository()));
        assert!(version.repositories().all(|repo| repo.parse::<darkroom::hub::RepoId>().is_ok()), "{key}");
    }
}

#[test]
fn names_of_versions() {
    for version in SDVersion::ALL {
        assert_eq!(version.key().parse::<SDVersion>().unwrap(), version);
        assert_eq!(version.key().to_uppercase().parse::<SDVersion>().unwrap(), version);
        for alias in version.aliases() {
            assert_eq!(alias.parse::<SDVersion>().unwrap(), version, "{alias}");
        }
    }
    let spellings = [
        ("sd15", SDVersion::V1_5),
        ("SD1.5", SDVersion::V1_5),
        ("1.5", SDVersion::V1_5),
        ("v1.5", SDVersion::V1_5),
        ("v1-5-inpainting", SDVersion::V1_5Inpaint),
        ("sd21", SDVersion::V2_1),
        ("2.1", SDVersion::V2_1),
        ("sd2-inpaint", SDVersion::V2Inpaint),
        (" SDXL ", SDVersion::Xl),
        ("sdxl-inpaint", SDVersion::XlInpaint),
        ("SDXL_Turbo", SDVersion::Turbo),
    ];
    for (text, version) in spellings {
        assert_eq!(text.parse::<SDVersion>().unwrap(), version, "{text}");
    }
    for text in ["", "3", "sd3", "flux", "-.-"] {
        let said = message(text.parse::<SDVersion>());
        assert!(SDVersion::ALL.iter().all(|version| said.contains(version.key())), "{said}");
    }
}

#[test]
fn sizes() {
    let refused = [
        (
            SDVersion::V1_5,
            513,
            512,
            "width 513 is not possible: use 512 or 576, or any multiple of 8 with --any-size (any_size)",
        ),
        (
            SDVersion::V1_5,
            512,
            520,
            "height 520 is not possible: use 512 or 576, or any multiple of 8 with --any-size (any_size)",
        ),
        (
            SDVersion::Xl,
            1000,
            1000,
            "width 1000 is not possible: use 992 or 1024, or any multiple of 8 with --any-size (any_size)",
        ),
        (
            SDVersion::Turbo,
            512,
            0,
            "height 0 is not possible: use 32 or a larger multiple of it, or any multiple of 8 with --any-size (any_size)",
        ),
        (
            SDVersion::V1_5,
            63,
            64,
            "width 63 is not possible: use 64 or a larger multiple of it, or any multiple of 8 with --any-size (any_size)",
        ),
        (SDVersion::V1_5, 4097, 64, "width 4097 is not possible: use 4096 at most"),
        (SDVersion::V1_5, 64, usize::MAX, &format!("height {} is not possible: use 4096 at most", usize::MAX)),
    ];
    for (version, width, height, expected) in refused {
        assert_eq!(message(SDConfig::new(version).with_size(width, height).validate()), expected);
    }
    for (version, width, height) in
        [(SDVersion::V1_5, 64, 4096), (SDVersion::Xl, 32, 1056), (SDVersion::V2_1, 768, 1280)]
    {
        SDConfig::new(version).with_size(width, height).validate().unwrap();
    }
}

#[test]
fn any_multiple_of_8_is_drawn_on_request() {
    for (version, width, height) in
        [(SDVersion::V1_5, 520, 8), (SDVersion::V2Inpaint, 600, 400), (SDVersion::Xl, 1000, 1000)]
    {
        SDConfig::new(version).with_size(width, height).with_any_size(true).validate().unwrap();
        assert!(SDConfig::new(version).with_size(width, height).validate().is_err());
    }
    for (width, height, expected) in [
        (513, 512, "width 513 is not possible: use 512 or 520"),
        (512, 1001, "height 1001 is not possible: use 1000 or 1008"),
        (7, 512, "width 7 is not possible: use 8 or a larger multiple of it"),
        (4104, 512, "width 4104 is not possible: use 4096 at most"),
    ] {
        let config = SDConfig::new(SDVersion::Xl).with_size(width, height).with_any_size(true);
        assert_eq!(message(config.validate()), expected);
    }
}

#[test]
fn sizes_for_a_loaded_folder_of_other_geometry() {
    let config = SDConfig::new(SDVersion::V1_5);
    let sides = |multiple| SideRule { multiple, any_multiple: multiple };
    config.clone().with_size(128, 24).validate_for(sides(8)).unwrap();
    assert_eq!(
        message(config.clone().with_size(100, 128).validate_for(sides(8))),
        "width 100 is not possible: use 96 or 104"
    );
    // The largest multiple of 96 that is not above 4096 is 4032.
    assert_eq!(
        message(config.clone().with_size(4096, 96).validate_for(sides(96))),
        "width 4096 is not possible: use 4032 at most"
    );
    assert!(message(config.clone().validate_for(sides(0))).contains("multiples of 0"));
    assert!(message(config.validate_for(sides(usize::MAX))).contains("no side up to 4096"));
}

#[test]
fn numbers() {
    let xl = || SDConfig::new(SDVersion::Xl);
    for good in [
        xl().with_steps(1),
        xl().with_steps(150),
        xl().with_guidance_scale(0.0),
        xl().with_guidance_scale(20.0),
        xl().with_strength(0.0),
        xl().with_strength(1.0),
        xl().with_count(64),
        xl().with_seed(u64::MAX),
        xl().with_seed(u64::MAX - 3).with_count(4),
        xl().with_clip_skip(Some(10)),
        xl().with_attention(Attention::Sliced).with_long_prompt(LongPrompt::Chunks),
        xl().with_original_size(4096, 1).with_crop(0, 16_384),
        xl().with_sampler("ddim".parse::<Sampler>().unwrap()).with_negative_prompt("blurry"),
    ] {
        good.validate().unwrap();
    }
    let refused = [
        (xl().with_steps(0), "steps 0 is not possible: use 1 to 150"),
        (xl().with_steps(151), "steps 151 is not possible: use 1 to 150"),
        (xl().with_guidance_scale(20.1), "guidance scale 20.1 is not possible: use 0.0 to 20.0"),
        (xl().with_guidance_scale(-0.1), "guidance scale -0.1 is not possible: use 0.0 to 20.0"),
        (xl().with_guidance_scale(f64::NAN), "guidance scale NaN is not possible: use 0.0 to 20.0"),
        (xl().with_guidance_scale(f64::INFINITY), "guidance scale inf is not possible: use 0.0 to 20.0"),
        (xl().with_strength(1.01), "strength 1.01 is not possible: use 0.0 to 1.0"),
        (xl().with_strength(f64::NEG_INFINITY), "strength -inf is not possible: use 0.0 to 1.0"),
        (xl().with_count(0), "count 0 is not possible: use 1 to 64"),
        (xl().with_count(65), "count 65 is not possible: use 1 to 64"),
        (
            xl().with_seed(u64::MAX).with_count(2),
            "seed 18446744073709551615 is not possible: each picture adds one, so for 2 pictures use at most \
             18446744073709551614",
        ),
        (xl().with_clip_skip(Some(0)), "clip skip 0 is not possible: leave it out to skip no layer, or use 1 to 10"),
        (
            xl().with_clip_skip(Some(11)),
            "clip skip 11 is not possible: the text encoder of Stable Diffusion XL 1.0 allows 1 to 10",
        ),
        (
            xl().with_original_size(0, 512),
            "original size 0x512 is not possible: both numbers must be from 1 to 16384 pixels",
        ),
        (
            SDConfig::new(SDVersion::V1_5).with_crop(0, 0),
            "crop 0x0 is not possible: Stable Diffusion 1.5 is not conditioned on it, only xl, xl-inpaint, turbo are",
        ),
    ];
    for (config, expected) in refused {
        assert_eq!(message(config.validate()), expected);
    }
}

#[test]
fn seeds_count_up() {
    let config = SDConfig::new(SDVersion::V1_5).with_seed(7).with_count(3);
    assert_eq!(config.seeds().unwrap().collect::<Vec<_>>(), [7, 8, 9]);
    let last = config.with_seed(u64::MAX - 2);
    assert_eq!(last.seeds().unwrap().last(), Some(u64::MAX));
    assert!(last.with_count(4).seeds().is_err());
}

#[test]
fn a_sampler_is_kept() {
    let sampler: Sampler = "ddim".parse().unwrap();
    assert_eq!(SDConfig::new(SDVersion::V1_5).with_sampler(sampler).sampler, Some(sampler));
}
