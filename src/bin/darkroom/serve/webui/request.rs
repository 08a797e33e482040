//! What a client of AUTOMATIC1111's web UI asks for, as a request of this server.
//!
//! What this server has is honoured, with the defaults that are the API's there. What would make another picture altogether (a
//! second pass, ControlNet, a script, a LoRA, a refiner, noise below a mask) is refused by name. The rest is passed over, and the answer's `info` lists what of it asked for
//! something.

use darkroom::image::{FileFormat, Fit};
use darkroom::request::{ClipSkipCounting, Request};
use darkroom::rng::Noise;
use darkroom::sampler::{Sampler, SamplerKind, SigmaSchedule};

use super::super::failure::Failure;
use super::super::menu::Menu;
use super::super::request::JobRequest;
use super::super::upload::MaskForm;
use super::Options;
use super::body::{Body, Given, whole};

/// Settings that are honoured, refused, or without effect on any picture.
pub const SETTINGS: [&str; 59] = [
    "prompt",
    "negative_prompt",
    "seed",
    "subseed",
    "subseed_strength",
    "steps",
    "cfg_scale",
    "width",
    "height",
    "batch_size",
    "n_iter",
    "sampler_name",
    "sampler_index",
    "scheduler",
    "denoising_strength",
    "resize_mode",
    "inpainting_mask_invert",
    "clip_skip",
    "eta",
    "send_images",
    "mask_blur",
    "mask_blur_x",
    "mask_blur_y",
    "inpainting_fill",
    "inpaint_full_res",
    "enable_hr",
    "script_name",
    "inpaint_full_res_padding",
    "refiner_checkpoint", // From here on without effect.
    "hr_scale",
    "hr_upscaler",
    "hr_second_pass_steps",
    "hr_resize_x",
    "hr_resize_y",
    "hr_checkpoint_name",
    "hr_sampler_name",
    "hr_scheduler",
    "hr_prompt",
    "hr_negative_prompt",
    "hr_additional_modules",
    "hr_cfg",
    "hr_distilled_cfg",
    "firstphase_width",
    "firstphase_height",
    "script_args",
    "refiner_switch_at",
    "image_cfg_scale",
    "distilled_cfg_scale",
    "do_not_save_samples",
    "do_not_save_grid",
    "override_settings_restore_afterwards",
    "mask_round",
    "disable_extra_networks",
    "force_task_id",
    "s_tmin",
    "s_tmax",
    "latent_mask",
    "rng",
    "task",
];

/// Settings that are passed over, with the value that asks for nothing.
pub const PASSED_OVER: [(&str, Neutral); 12] = [
    ("restore_faces", Neutral::Nothing),
    ("tiling", Neutral::Nothing),
    ("styles", Neutral::Nothing),
    ("save_images", Neutral::Nothing),
    ("include_init_images", Neutral::Nothing),
    ("infotext", Neutral::Nothing),
    ("comments", Neutral::Nothing),
    ("seed_resize_from_h", Neutral::NotPositive),
    ("seed_resize_from_w", Neutral::NotPositive),
    ("s_churn", Neutral::Nothing),
    ("s_noise", Neutral::One),
    ("initial_noise_multiplier", Neutral::One),
];

/// Radius of the mask's blur where a request does not say it, in pixels.
const MASK_BLUR: f64 = 4.0;

/// See [`PASSED_OVER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neutral {
    /// Null, false, 0, an empty text.
    Nothing,
    /// 0 or less.
    NotPositive,
    /// 1.
    One,
}

impl Neutral {
    fn is(self, given: &Given) -> bool {
        given.is_neutral()
            || match self {
                Neutral::Nothing => false,
                Neutral::NotPositive => given.real().is_some_and(|n| n <= 0.0),
                Neutral::One => given.real() == Some(1.0),
            }
    }
}

/// Which of the two asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Txt2Img,
    Img2Img,
}

/// How the answer is wanted, and what of the request it has to list.
pub struct Delivery {
    pub sends_images: bool,
    pub batch_size: usize,
    pub ignored: Vec<String>,
}

fn refuse<T>(name: &str, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::of(name, message))
}

/// Turns a body into a request.
///
/// # Errors
/// 400 with the setting that is not possible and what would work; 404 for a model that is not here.
pub fn read(body: &mut Body, door: Door, options: &Options, menu: &Menu) -> Result<(JobRequest, Delivery), Failure> {
    refuse_other_pictures(body)?;
    let mut ignored = std::mem::take(&mut body.unknown);
    let mut options = options.clone();
    let given_options = std::mem::take(&mut body.options);
    ignored.extend(options.change(&given_options, menu)?.into_iter().map(|name| format!("override_settings.{name}")));
    body.options = given_options;

    let (image, mask) = match door {
        Door::Txt2Img => {
            ignored.extend((!body.init_images.is_empty()).then(|| "init_images".to_owned()));
            ignored.extend(body.mask.take().map(|_| "mask".to_owned()));
            (None, None)
        }
        Door::Img2Img => (Some(init_image(body)?), body.mask.take()),
    };
    let model = menu.model_or_first(options.model_idx)?;
    let own = model.sampler;
    let (sampler, is_schedule_used) = sampler(body, own)?;
    ignored.extend((!is_schedule_used).then(|| "scheduler".to_owned()));
    let kind = sampler.unwrap_or(own).kind;
    list_ignored(body, mask.is_some(), kind, &mut ignored)?;

    let seed = seed_of(body, "seed")?;
    let variation_strength = body.real("subseed_strength")?.filter(|strength| *strength != 0.0);
    let variation_seed = seed_of(body, "subseed")?.filter(|_| variation_strength.is_some());
    let batch_size = body.count("batch_size")?.unwrap_or(1);
    let n_iter = body.count("n_iter")?.unwrap_or(1);
    let stops_at = match body.whole("clip_skip")? {
        None | Some(0) => options.clip_stop,
        Some(n) => usize::try_from(n)
            .or_else(|_| refuse("clip_skip", format!("clip_skip {n} is not possible: use 1 or more")))?,
    };
    let (output_format, output_compression) = match options.format {
        FileFormat::Png => (None, None),
        FileFormat::Jpeg { quality } | FileFormat::WebP { quality } => {
            (Some(options.format.name().to_owned()), Some(quality.into()))
        }
    };
    let negative_prompt = body.text("negative_prompt")?;
    let (width, height) = (body.count("width")?, body.count("height")?);
    // There a side is any multiple of 8.
    let multiple = model.defaults.size_multiple.max(1);
    let any_size = [width, height].into_iter().flatten().any(|side| !side.is_multiple_of(multiple));
    let is_only_masked = mask.is_some() && body.flag("inpaint_full_res", true)?;
    let padding_mask_crop = match is_only_masked {
        true => Some(body.count("inpaint_full_res_padding")?.unwrap_or(0)),
        false => None,
    };
    let mask_blur = match mask {
        Some(_) => Some(mask_blur(body)?),
        None => None,
    };
    let asked = Request {
        prompt: body.text("prompt")?.to_owned(),
        // An empty one is none there, which XL draws differently.
        negative_prompt: (!negative_prompt.is_empty()).then(|| negative_prompt.to_owned()),
        width,
        height,
        any_size,
        steps: body.count("steps")?,
        guidance_scale: body.real("cfg_scale")?,
        fit: match door {
            Door::Txt2Img => None,
            // What is masked keeps its proportions there too.
            Door::Img2Img if padding_mask_crop.is_some() => None,
            Door::Img2Img => Some(fit(body)?),
        },
        padding_mask_crop,
        mask_blur,
        strength: match door {
            Door::Txt2Img => None,
            Door::Img2Img => Some(body.real("denoising_strength")?.unwrap_or(0.75)),
        },
        sampler: sampler.map(Sampler::name),
        seed,
        variation_seed,
        variation_strength,
        noise: (options.noise != Noise::Cpu).then_some(options.noise),
        count: Some(batch_size.saturating_mul(n_iter)),
        // 1 is the last layer there, which skips none.
        clip_skip: Some(stops_at).filter(|layer| *layer > 1),
        clip_skip_counting: (stops_at > 1).then_some(ClipSkipCounting::A1111),
        ..Request::default()
    };
    let request = JobRequest {
        request: asked,
        model: Some(model.name.clone()),
        image,
        mask,
        mask_form: MaskForm::OpaqueIsRepainted { inverted: body.flag("inpainting_mask_invert", false)? },
        output_format,
        output_compression,
    };
    Ok((request, Delivery { sends_images: body.flag("send_images", true)?, batch_size, ignored }))
}

/// A seed; -1 is a random one.
fn seed_of(body: &Body, name: &str) -> Result<Option<u64>, Failure> {
    match body.whole(name)? {
        None | Some(-1) => Ok(None),
        Some(seed) => u64::try_from(seed)
            .map(Some)
            .or_else(|_| refuse(name, format!("{name} {seed} is not possible: use -1 for a random one, or 0 or more"))),
    }
}

fn init_image(body: &mut Body) -> Result<super::super::upload::Upload, Failure> {
    match body.init_images.len() {
        1 => body.init_images.pop().ok_or_else(|| Failure::of("init_images", "init_images is missing")),
        0 => refuse("init_images", "init_images is missing: send one picture in base64"),
        n => refuse(
            "init_images",
            format!("{n} pictures as init_images are not possible: send one, in a request of its own"),
        ),
    }
}

/// Refuses what would make another picture altogether.
fn refuse_other_pictures(body: &Body) -> Result<(), Failure> {
    if body.flag("enable_hr", false)? {
        let message = "enable_hr is not possible: there is no second pass; ask for the size you want, or send the picture \
            to img2img";
        return refuse("enable_hr", message);
    }
    for (name, what) in [("script_name", "scripts"), ("refiner_checkpoint", "refiners")] {
        if !body.get(name).is_neutral() {
            return refuse(name, format!("{name} {:?} is not possible: there are no {what} here", body.text(name)?));
        }
    }
    if let Some((script, _)) = body.scripts.iter().find(|(_, given)| !given.is_neutral()) {
        let script: String = script.chars().take(60).collect();
        let message = format!("the script {script:?} in alwayson_scripts is not possible: there are no scripts here");
        return refuse("alwayson_scripts", message);
    }
    for name in ["prompt", "negative_prompt"] {
        let text = body.text(name)?;
        let lower = text.to_ascii_lowercase();
        // Tags in the prompt are looked up, and refused where there is no such file.
        let starts: &[&str] = if name == "prompt" { &["<hypernet:"] } else { &["<lora:", "<lyco:", "<hypernet:"] };
        if let Some(start) = starts.iter().find(|start| lower.contains(**start)) {
            return refuse(name, format!("{start}…> in {name} is not possible: no such files are loaded here"));
        }
    }
    Ok(())
}

/// How a start picture of another shape is brought to the size that is drawn.
fn fit(body: &Body) -> Result<Fit, Failure> {
    match body.whole("resize_mode")? {
        None | Some(0) => Ok(Fit::Stretch),
        Some(1) => Ok(Fit::Crop),
        Some(2) => Ok(Fit::Pad),
        Some(mode) => refuse("resize_mode", format!("resize_mode {mode} is not possible: use 0, 1 or 2")),
    }
}

/// By how much the mask is blurred, in pixels: in both directions, or in each where that is not said.
fn mask_blur(body: &Body) -> Result<f64, Failure> {
    if let Some(radius) = body.real("mask_blur")? {
        return Ok(radius);
    }
    let x = body.real("mask_blur_x")?.unwrap_or(MASK_BLUR);
    let y = body.real("mask_blur_y")?.unwrap_or(MASK_BLUR);
    match x == y {
        true => Ok(x),
        false => refuse("mask_blur_x", "mask_blur_x and mask_blur_y that differ are not possible: use mask_blur"),
    }
}

/// Lists what asks for something that is not done.
fn list_ignored(body: &Body, has_mask: bool, kind: SamplerKind, ignored: &mut Vec<String>) -> Result<(), Failure> {
    let mut list = |name: &str| ignored.push(name.to_owned());
    for (name, neutral) in PASSED_OVER {
        if !neutral.is(body.get(name)) {
            list(name);
        }
    }
    // 0 in DDIM, 1 in the others that have it, is how they are drawn here.
    let eta = body.real("eta")?;
    let drawn = match kind {
        SamplerKind::Ddim => Some(0.0),
        SamplerKind::EulerAncestral | SamplerKind::DpmPp2mSde | SamplerKind::DpmPp2sSde => Some(1.0),
        _ => eta,
    };
    if eta.is_some() && eta != drawn {
        list("eta");
    }
    if has_mask {
        // The masked part keeps its content under the noise, as with 1; 0 blurs its surroundings into it first.
        match body.whole("inpainting_fill")? {
            None | Some(1) => {}
            Some(0) => list("inpainting_fill"),
            Some(fill) => {
                let message =
                    format!("inpainting_fill {fill} is not possible: use 1, which keeps what is below the mask");
                return refuse("inpainting_fill", message);
            }
        }
    }
    if ["prompt", "negative_prompt"].iter().any(|name| body.text(name).is_ok_and(has_weights)) {
        list("(words:1.2) in prompts");
    }
    Ok(())
}

/// Whether the text has `(words:1.2)`, which is read as it stands.
fn has_weights(text: &str) -> bool {
    text.split('(').skip(1).any(|inside| {
        let number = inside.split(')').next().and_then(|inside| inside.rsplit_once(':'));
        number.is_some_and(|(_, number)| number.trim().parse::<f64>().is_ok())
    })
}

/// The sampler from its name and the schedule's, which newer clients send apart, and whether that schedule is used; `None`
/// for the model's `own`.
///
/// Clients send a schedule with every sampler. One that the sampler does not have is passed over, and so is one beside a
/// name that ends in a schedule: AUTOMATIC1111 takes the name's.
fn sampler(body: &Body, own: Sampler) -> Result<(Option<Sampler>, bool), Failure> {
    let (mut field, mut name) = ("sampler_name", body.text("sampler_name")?.trim());
    if name.is_empty() {
        (field, name) = ("sampler_index", body.text("sampler_index")?.trim());
    }
    let schedule = schedule(body)?;
    let named: Option<Sampler> = match name {
        "" => None,
        name => Some(name.parse().map_err(|e| Failure::from(e).about(field))?),
    };
    let Some(schedule) = schedule else { return Ok((named, true)) };
    let base = named.unwrap_or(own.kind.into());
    match base.schedule {
        Some(of_name) => Ok((named, of_name == schedule)),
        None if base.kind.has_schedule(schedule) => Ok((Some(Sampler { schedule: Some(schedule), ..base }), true)),
        None => Ok((named, false)),
    }
}

/// The schedule that is asked for; `None` for the sampler's own.
fn schedule(body: &Body) -> Result<Option<SigmaSchedule>, Failure> {
    let name = body.text("scheduler")?.trim().to_lowercase().replace([' ', '-'], "_");
    match name.as_str() {
        // As evenly as the checkpoint has them.
        "" | "automatic" | "use_same_scheduler" | "uniform" | "normal" | "simple" | "ddim" | "ddim_uniform" => Ok(None),
        other => match SigmaSchedule::ALL.into_iter().find(|schedule| schedule.name() == other) {
            Some(schedule) => Ok(Some(schedule)),
            None => {
                let names = SigmaSchedule::ALL.map(SigmaSchedule::a1111_name).join(", ");
                refuse("scheduler", format!("scheduler {other:?} is not possible: use Automatic, {names}"))
            }
        },
    }
}

/// A number from 1 on of an option.
pub fn positive(name: &str, given: &Given, most: usize) -> Result<usize, Failure> {
    let number = whole(name, given)?.and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| Failure::of(name, format!("{name} is not possible: use 1 to {most}")))
}
