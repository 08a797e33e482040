//! One request being drawn: a state machine whose [`Generation::step`] does one stage, or one denoising step.
//!
//! The stages and the order in which noise is drawn are those of diffusers' StableDiffusion[XL][Img2Img|Inpaint]Pipeline.
//! Pictures of one request are drawn one after another, each from a generator of its own seed.

mod checkpoint;
mod condition;
mod decode;
mod denoise;
mod encode;
mod prepare;
mod preview;
mod repaint;
mod setup;

use std::rc::Rc;

pub use checkpoint::Checkpoint;
pub use repaint::check_mask;

use crate::error::{Error, Result};
use crate::pipeline::components::ModelComponents;
use crate::pipeline::job::{Event, Inputs, Stage, Task};
use crate::run::Runner;
use decode::Decoder;
use denoise::Denoiser;
use encode::StartPicture;
use prepare::Picture;
use setup::Setup;

/// What is encoded once and used for every picture of the request.
struct Ready<R: Runner> {
    denoiser: Denoiser<R>,
    decoder: Decoder<R>,
    start_picture: Option<StartPicture<R::Tensor>>,
}

/// Where a generation is, with what there is by then.
enum At<R: Runner> {
    Encode,
    Prepare(Box<Ready<R>>),
    Denoise(Box<Ready<R>>, Box<Picture<R::Tensor>>),
    Decode(Box<Ready<R>>, Box<Picture<R::Tensor>>),
    Done,
}

/// Gives back the memory that the runner keeps for this generation's sizes when it is dropped: the next one may be smaller, or
/// there may be none.
struct Trim<R: Runner>(Rc<R>);

impl<R: Runner> Drop for Trim<R> {
    fn drop(&mut self) {
        self.0.trim();
    }
}

/// See the module.
pub struct Generation<R: Runner> {
    setup: Setup<R>,
    at: At<R>,
    /// Pictures done.
    picture_idx: usize,
    done_flops: u64,
    /// The last field: all tensors and programs are dropped before.
    _trim: Trim<R>,
}

fn refuse<T>(field: &'static str, got: impl Into<String>, expected: impl Into<String>) -> Result<T> {
    Err(Error::Request { field, got: got.into(), expected: expected.into() })
}

impl<R: Runner> Generation<R> {
    /// 1. Checks the request against the model, and computes the schedule. Nothing runs yet.
    ///
    /// The runner is told what will ([`crate::pipeline::foresee`]).
    ///
    /// # Errors
    /// [`Error::Request`] saying what would work.
    pub fn new(runner: &Rc<R>, model: &Rc<ModelComponents<R>>, inputs: impl Into<Rc<Inputs>>) -> Result<Self> {
        Ok(Generation {
            setup: Setup::new(runner, model, inputs.into())?,
            at: At::Encode,
            picture_idx: 0,
            done_flops: 0,
            _trim: Trim(Rc::clone(runner)),
        })
    }

    /// What is drawn from what.
    #[must_use]
    pub fn task(&self) -> Task {
        self.setup.task
    }

    /// What the next [`Generation::step`] does.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.at {
            At::Encode => Stage::Encode,
            At::Prepare(_) => Stage::Prepare,
            At::Denoise(..) => Stage::Denoise,
            At::Decode(..) => Stage::Decode,
            At::Done => Stage::Done,
        }
    }

    /// Calls of the UNet for one picture. Some samplers call it more than once a step, image-to-image fewer times.
    #[must_use]
    pub fn n_steps(&self) -> usize {
        self.setup.n_steps()
    }

    /// The whole request's work, in floating-point operations, for progress bars.
    #[must_use]
    pub fn total_flops(&self) -> u64 {
        self.setup.total_flops()
    }

    /// The part of the whole request that is done, 0 to 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        self.done_flops as f64 / self.total_flops().max(1) as f64
    }

    /// The picture that is being drawn; `None` between pictures.
    fn picture(&self) -> Option<&Picture<R::Tensor>> {
        match &self.at {
            At::Denoise(_, picture) | At::Decode(_, picture) => Some(picture),
            At::Encode | At::Prepare(_) | At::Done => None,
        }
    }

    /// Does one stage, or one denoising step. `progress` is told the part of the whole request that is done, 0 to 1, and
    /// returns whether to go on. `None` when everything is done.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `progress` said so; [`Error::NotFinite`] naming the stage that gave NaN or infinity; what
    /// the runner says. After an error the request is over: what it held is dropped, and the next step gives `None`.
    pub async fn step(&mut self, progress: &mut dyn FnMut(f64) -> bool) -> Result<Option<Event>> {
        let setup = &self.setup;
        // At every step, because generations that share a runner may differ in it.
        setup.use_attention()?;
        let total = setup.total_flops().max(1) as f64;
        let before = self.done_flops;
        let of_stage = match self.at {
            At::Encode => setup.work.encode,
            At::Denoise(..) => setup.work.step,
            At::Decode(..) => setup.work.decode,
            At::Prepare(_) | At::Done => 0,
        };
        // A stage may run several graphs, each of which counts from zero: a count that falls begins the next one. The
        // stage's share of the bar is fixed, so the bar never goes back.
        let (mut earlier, mut last) = (0, 0);
        let mut report = |flops: u64| {
            if flops < last {
                earlier += last;
            }
            last = flops;
            progress((before + (earlier + flops).min(of_stage)) as f64 / total)
        };
        let idx = self.picture_idx;
        let (at, event) = match std::mem::replace(&mut self.at, At::Done) {
            At::Encode => {
                let (ready, event) = setup.encode(&mut report).await?;
                (At::Prepare(Box::new(ready)), event)
            }
            At::Prepare(ready) => {
                let picture = setup.prepare(ready.start_picture.as_ref(), idx)?;
                (setup.after_step(ready, Box::new(picture)), Event::Prepared { picture: idx })
            }
            At::Denoise(mut ready, mut picture) => {
                let repeated_in_f32 = setup.denoise(&mut ready, &mut picture, &mut report).await?;
                let (step, n_steps) = (picture.step_idx, setup.n_steps());
                let event = Event::Denoised { picture: idx, step, n_steps, repeated_in_f32 };
                (setup.after_step(ready, picture), event)
            }
            At::Decode(mut ready, picture) => {
                let seed = picture.seed;
                // A second picture has use for it, and finds all memory there.
                if setup.count() == 1 {
                    ready.denoiser.forget_conditioning();
                    setup.runner.trim();
                }
                let (image, repeated_in_f32) = setup.decode(&mut ready, *picture, &mut report).await?;
                self.picture_idx += 1;
                let at = if self.picture_idx < setup.count() { At::Prepare(ready) } else { At::Done };
                (at, Event::Decoded { picture: idx, seed, image, repeated_in_f32 })
            }
            At::Done => return Ok(None),
        };
        self.at = at;
        self.done_flops += of_stage;
        Ok(Some(event))
    }

    /// The current picture's latents, channels-first \[4,h,w\] as diffusers has them: for tests. `None` between pictures.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn latents(&self) -> Result<Option<Vec<f32>>> {
        let Some(picture) = self.picture() else { return Ok(None) };
        let values = self.setup.runner.download(&picture.state.latents).await?;
        let [_, h, w, channels] = self.setup.latent_shape();
        Ok(Some((0..values.len()).map(|i| values[i % (h * w) * channels + i / (h * w)]).collect()))
    }
}
