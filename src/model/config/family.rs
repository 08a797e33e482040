//! What a repository is that cannot be drawn with here: other families of models, and pipelines of Stable Diffusion that
//! want something beside a prompt. Named as what they are, with what to use in their place.

use super::ModelIndex;

/// What every refusal ends with.
const INSTEAD: &str = "only Stable Diffusion 1, 2 and XL, which draw from a prompt, can be used here";

/// Pipelines of diffusers by how their class's name begins, with what they are. The first that fits counts.
const OTHERS: &[(&str, &str)] = &[
    ("StableDiffusion3", "Stable Diffusion 3"),
    ("StableDiffusionXLInstructPix2Pix", INSTRUCT),
    ("StableDiffusionInstructPix2Pix", INSTRUCT),
    ("StableDiffusionUpscale", UPSCALER),
    ("StableDiffusionLatentUpscale", "an upscaler of latents"),
    ("StableDiffusionDepth2Img", DEPTH),
    ("StableDiffusionImageVariation", "a model that varies a picture and takes no prompt"),
    ("StableDiffusionGLIGEN", "GLIGEN, which takes boxes beside the prompt"),
    ("StableDiffusionLDM3D", "LDM3D, which draws depth too"),
    ("StableDiffusionControlNet", CONTROL_NET),
    ("StableDiffusionXLControlNet", CONTROL_NET),
    ("StableDiffusionAdapter", "a T2I-Adapter with its base model"),
    ("StableDiffusionXLAdapter", "a T2I-Adapter with its base model"),
    ("StableUnCLIP", "Stable unCLIP, which draws from the embedding of a picture"),
    ("StableVideoDiffusion", "Stable Video Diffusion"),
    ("StableCascade", "Stable Cascade"),
    ("Wuerstchen", "Wuerstchen"),
    ("AnimateDiff", "AnimateDiff, which draws videos"),
    ("AltDiffusion", "AltDiffusion, whose text encoder is not CLIP"),
    ("PaintByExample", "Paint by Example, which takes a picture in place of a prompt"),
    ("VersatileDiffusion", "Versatile Diffusion"),
    ("TextToVideo", "a model that draws videos"),
    ("Flux", "FLUX"),
    ("PixArt", "PixArt"),
    ("Kandinsky", "Kandinsky"),
    ("IF", "DeepFloyd IF"),
    ("UnCLIP", "unCLIP"),
    ("Hunyuan", "Hunyuan"),
    ("AuraFlow", "AuraFlow"),
    ("Sana", "Sana"),
    ("Lumina", "Lumina"),
    ("Chroma", "Chroma"),
    ("QwenImage", "Qwen-Image"),
    ("CogView", "CogView"),
    ("CogVideo", "CogVideoX, which draws videos"),
    ("LTX", "LTX, which draws videos"),
    ("Wan", "Wan, which draws videos"),
    ("Mochi", "Mochi, which draws videos"),
    ("LDMTextToImage", "latent diffusion from before Stable Diffusion"),
];

const INSTRUCT: &str = "InstructPix2Pix, which changes a picture as a sentence tells it";
const UPSCALER: &str = "the x4 upscaler, which enlarges a picture";
const DEPTH: &str = "a depth model, which draws from a picture's depth";
const CONTROL_NET: &str = "a ControlNet with its base model";

/// Why a pipeline cannot be drawn with; `None` where it can.
pub(super) fn why_not(index: &ModelIndex) -> Option<String> {
    let class = index.class_name.as_str();
    let is = |what: &str| Some(format!("{class} is {what}: {INSTEAD}"));
    if let Some((_, what)) = OTHERS.iter().find(|(prefix, _)| class.starts_with(prefix)) {
        return is(what);
    }
    let known = class.starts_with("StableDiffusion") || class.starts_with("LatentConsistencyModel");
    if !known || ModelIndex::present(&index.transformer) {
        return is("another kind of model");
    }
    // The same by what they consist of, whatever they call themselves.
    if ModelIndex::present(&index.low_res_scheduler) {
        return is(UPSCALER);
    }
    if ModelIndex::present(&index.depth_estimator) {
        return is(DEPTH);
    }
    if index.is_xl() && !index.has_text_encoder() || index.requires_aesthetics_score == Some(true) {
        return Some(format!(
            "{class} without a first text encoder or with an aesthetics score is the SDXL refiner, which goes over \
             another model's picture and cannot draw by itself: give the base model, stable-diffusion-xl-base-1.0"
        ));
    }
    if !index.has_text_encoder() {
        let what = if ModelIndex::present(&index.image_encoder) { "takes a picture" } else { "takes no text" };
        return Some(format!("{class} without a text encoder {what} in place of a prompt: {INSTEAD}"));
    }
    match ModelIndex::class(&index.unet) {
        None | Some("UNet2DConditionModel") => {}
        Some(other) => {
            return Some(format!("unet {other} is not supported: UNet2DConditionModel is"));
        }
    }
    match index.vae_class() {
        "AutoencoderKL" | "AutoencoderTiny" => None,
        other => Some(format!("vae {other} is not supported: AutoencoderKL and AutoencoderTiny are")),
    }
}

/// What a UNet of so many input channels belongs to, where it is none that can be drawn with.
#[must_use]
pub fn channels_of(in_channels: usize) -> Option<&'static str> {
    match in_channels {
        8 => Some(INSTRUCT),
        7 => Some(UPSCALER),
        5 => Some(DEPTH),
        3 => Some("a model of pixels, not of latents"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: &str = r#""unet":["diffusers","UNet2DConditionModel"],"vae":["diffusers","AutoencoderKL"],
        "text_encoder":["transformers","CLIPTextModel"],"tokenizer":["transformers","CLIPTokenizer"]"#;

    fn said(class: &str, parts: &str) -> Result<(), String> {
        let text = format!(r#"{{"_class_name":"{class}",{parts}}}"#);
        ModelIndex::from_json(&text, "model_index.json").map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn what_can_be_drawn_with_is_let_through() {
        for class in [
            "StableDiffusionPipeline",
            "StableDiffusionImg2ImgPipeline",
            "StableDiffusionInpaintPipeline",
            "StableDiffusionInpaintPipelineLegacy",
            "StableDiffusionXLPipeline",
            "StableDiffusionPAGPipeline",
            "LatentConsistencyModelPipeline",
            "LatentConsistencyModelImg2ImgPipeline",
        ] {
            assert_eq!(said(class, PARTS), Ok(()), "{class}");
        }
        assert_eq!(said("StableDiffusionPipeline", &PARTS.replace("AutoencoderKL", "AutoencoderTiny")), Ok(()));
    }

    #[test]
    fn others_are_named_as_what_they_are() {
        for (class, what) in [
            ("StableDiffusion3Pipeline", "Stable Diffusion 3"),
            ("StableDiffusion3Img2ImgPipeline", "Stable Diffusion 3"),
            ("StableDiffusionInstructPix2PixPipeline", "InstructPix2Pix"),
            ("StableDiffusionXLInstructPix2PixPipeline", "InstructPix2Pix"),
            ("StableDiffusionDepth2ImgPipeline", "depth"),
            ("StableDiffusionUpscalePipeline", "upscaler"),
            ("StableDiffusionLatentUpscalePipeline", "upscaler"),
            ("StableDiffusionImageVariationPipeline", "varies a picture"),
            ("StableDiffusionControlNetPipeline", "ControlNet"),
            ("StableUnCLIPImg2ImgPipeline", "unCLIP"),
            ("FluxPipeline", "FLUX"),
            ("PixArtSigmaPipeline", "PixArt"),
            ("KandinskyV22Pipeline", "Kandinsky"),
            ("IFPipeline", "DeepFloyd"),
            ("SanaPipeline", "Sana"),
            ("StableVideoDiffusionPipeline", "Video"),
            ("AudioLDMPipeline", "another kind of model"),
        ] {
            let error = said(class, PARTS).unwrap_err();
            assert!(error.contains(what) && error.contains("Stable Diffusion 1, 2 and XL"), "{error}");
        }
    }

    #[test]
    fn parts_tell_what_the_class_does_not() {
        let none = r#""text_encoder":[null,null],"tokenizer":[null,null]"#;
        let second = r#""text_encoder_2":["transformers","T"],"tokenizer_2":["transformers","C"]"#;
        let error = said("StableDiffusionXLImg2ImgPipeline", &format!("{none},{second}")).unwrap_err();
        assert!(error.contains("is the SDXL refiner") && error.contains("base model"), "{error}");
        let error =
            said("StableDiffusionXLPipeline", &format!(r#"{PARTS},"requires_aesthetics_score":true"#)).unwrap_err();
        assert!(error.contains("refiner"), "{error}");
        let error =
            said("StableDiffusionPipeline", &format!(r#"{PARTS},"low_res_scheduler":["diffusers","D"]"#)).unwrap_err();
        assert!(error.contains("upscaler"), "{error}");
        let error = said("StableDiffusionPipeline", none).unwrap_err();
        assert!(error.contains("without a text encoder"), "{error}");
        let error =
            said("StableDiffusionPipeline", &PARTS.replace("AutoencoderKL", "AsymmetricAutoencoderKL")).unwrap_err();
        assert_eq!(
            error,
            "model_index.json: vae AsymmetricAutoencoderKL is not supported: AutoencoderKL and AutoencoderTiny are"
        );
        let error = said("StableDiffusionPipeline", &PARTS.replace("UNet2DCondition", "UNetMotion")).unwrap_err();
        assert!(error.contains("unet UNetMotionModel is not supported"), "{error}");
    }
}
