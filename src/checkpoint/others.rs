//! Models of other families than Stable Diffusion 1, 2 and XL, and what goes with them, by the names that only they have.

use super::identity::{Family, Identity, Kind, View};

const SD3: (&str, &str) = ("sd3", "Stable Diffusion 3");
const FLUX: (&str, &str) = ("flux", "Flux");
const CASCADE: (&str, &str) = ("stable-cascade", "Stable Cascade");
const PIXART: (&str, &str) = ("pixart", "PixArt");

/// A name's beginning behind the prefix of a model, and the family. The first that fits counts.
const SIGNS: [(&str, (&str, &str)); 23] = [
    ("joint_blocks.0.", SD3),
    ("double_blocks.0.img_attn", FLUX),
    ("single_transformer_blocks.0.", FLUX),
    ("transformer_blocks.0.img_mod.", ("qwen-image", "Qwen-Image")),
    ("transformer_blocks.0.attn.add_q_proj", SD3),
    ("double_layers.0.", ("auraflow", "AuraFlow")),
    ("joint_transformer_blocks.0.", ("auraflow", "AuraFlow")),
    ("clf.1.weight", CASCADE),
    ("clip_txt_mapper.", CASCADE),
    ("effnet_mapper.", CASCADE),
    ("noise_refiner.0.", ("lumina", "Lumina 2")),
    ("mlp_t5.", ("hunyuan-dit", "Hunyuan-DiT")),
    ("t_block.1.", PIXART),
    ("adaln_single.emb.resolution_embedder.", PIXART),
    ("patchify_proj.", ("ltx-video", "LTX-Video")),
    ("adaln_single.", ("ltx-video", "LTX-Video")),
    ("head.modulation", ("wan", "Wan")),
    ("blocks.0.cross_attn.norm_k", ("wan", "Wan")),
    ("condition_embedder.", ("wan", "Wan")),
    ("t5_yproj.", ("mochi", "Mochi")),
    ("caption_projection.", ("sana", "Sana")),
    ("net.blocks.block0.", ("cosmos", "Cosmos")),
    ("txt_in.individual_token_refiner.", ("hunyuan-video", "HunyuanVideo")),
];

/// In front of a model's names.
const PREFIXES: [&str; 6] = ["model.diffusion_model.", "", "diffusion_model.", "model.", "transformer.", "unet."];

/// The width of the text that Z-Image reads, which is Lumina 2 in all else.
const Z_IMAGE_TEXT: usize = 2560;

/// Why a model of another family is not drawn with.
pub(super) fn refuse(name: &str) -> String {
    format!("this is {name}: Stable Diffusion 1, 2 and XL can be drawn with")
}

/// What it is, where it is one of them.
pub(super) fn look(view: &View<'_>) -> Option<Identity> {
    motion(view).or_else(|| model(view)).or_else(|| other(view))
}

fn model(view: &View<'_>) -> Option<Identity> {
    let find = |prefix: &'static str| {
        let text = view.shape(&format!("{prefix}cap_embedder.0.weight")).and_then(|shape| shape.last().copied());
        let family = match text {
            Some(Z_IMAGE_TEXT) => Some(("z-image", "Z-Image")),
            Some(_) => Some(("lumina", "Lumina 2")),
            None => SIGNS.iter().find(|(sign, _)| view.starts(&format!("{prefix}{sign}"))).map(|(_, family)| *family),
        };
        family.map(|family| (prefix, family))
    };
    let (prefix, (id, name)) = PREFIXES.into_iter().find_map(find)?;
    let starts = |rest: &str| view.starts(&format!("{prefix}{rest}"));
    let variant = match id {
        "flux" if starts("guidance_in.") || starts("time_text_embed.guidance_embedder.") => Some("dev"),
        "flux" if starts("double_blocks.") => Some("schnell"),
        _ => None,
    };
    let family = Some(Family::Other(id, name));
    let obstacle = Some(refuse(name));
    Some(Identity { family, variant, obstacle, is_refused: true, ..Identity::of_kind(Kind::OtherModel) })
}

/// AnimateDiff's layers, which go into a Stable Diffusion 1 for moving pictures.
fn motion(view: &View<'_>) -> Option<Identity> {
    let is_motion = view.any(|name| name.contains("motion_modules.") && name.contains("temporal_transformer."));
    is_motion.then(|| Identity {
        family: Some(Family::Other("animatediff", "AnimateDiff")),
        obstacle: Some("this is a motion module (AnimateDiff) for moving pictures, which are not drawn here".into()),
        is_refused: true,
        ..Identity::of_kind(Kind::Other)
    })
}

fn other(view: &View<'_>) -> Option<Identity> {
    let refused = |obstacle: &str, kind| Identity {
        obstacle: Some(obstacle.to_owned()),
        is_refused: true,
        ..Identity::of_kind(kind)
    };
    let is_upscaler = view.has("conv_first.weight") || view.has("model.0.weight") && view.starts("model.1.sub.");
    if is_upscaler {
        let upscaler = refused("it enlarges pictures and does not draw them", Kind::PictureUpscaler);
        return Some(Identity { family: Some(Family::Other("esrgan", "ESRGAN")), ..upscaler });
    }
    if view.starts("encoder.block.0.layer.0.") {
        let text = refused("this is T5, the text encoder of other families (Flux, Stable Diffusion 3)", Kind::Other);
        return Some(Identity { variant: Some("t5"), ..text });
    }
    let is_language_model =
        view.has("model.embed_tokens.weight") || view.has("lm_head.weight") || view.has("transformer.wte.weight");
    is_language_model.then(|| refused("this is a language model, which draws no pictures", Kind::Other))
}
