//! Where a generation was after a step, and going on from there on another device.

use super::prepare::State;
use super::{At, Generation, refuse};
use crate::error::Result;
use crate::pipeline::job::Event;
use crate::rng::NoiseGenerator;
use crate::run::Runner;

/// Where a generation was after a step: enough to go on from there on another device.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    picture_idx: usize,
    /// `None` between pictures.
    picture: Option<PictureCheckpoint>,
}

/// What the steps of a picture left.
#[derive(Clone, Debug)]
struct PictureCheckpoint {
    /// Steps done.
    step_idx: usize,
    generator: NoiseGenerator,
    latents: Vec<f32>,
    buffers: Vec<Option<Vec<f32>>>,
}

impl<R: Runner> Generation<R> {
    /// What [`Generation::resume`] needs to go on from here: the latents and the sampler's other tensors, read back from
    /// the device, some 10 KiB to 1 MiB. Meant for after every step where a device may be lost.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn checkpoint(&self) -> Result<Checkpoint> {
        let mut kept = None;
        if let Some(picture) = self.picture() {
            let runner = &self.setup.runner;
            let latents = runner.download(&picture.state.latents).await?;
            let mut buffers = Vec::with_capacity(picture.state.buffers.len());
            for buffer in &picture.state.buffers {
                buffers.push(match buffer {
                    Some(buffer) => Some(runner.download(buffer).await?),
                    None => None,
                });
            }
            let generator = picture.generator.clone();
            kept = Some(PictureCheckpoint { step_idx: picture.step_idx, generator, latents, buffers });
        }
        Ok(Checkpoint { picture_idx: self.picture_idx, picture: kept })
    }

    /// Goes on from a checkpoint of the same request, on another device or the same: prompts and pictures are encoded
    /// anew, steps that were done are not. To be called before the first [`Generation::step`].
    ///
    /// # Errors
    /// As [`Generation::step`]; [`crate::Error::Request`] after the first step, or for another request's checkpoint.
    pub async fn resume(&mut self, checkpoint: &Checkpoint, progress: &mut dyn FnMut(f64) -> bool) -> Result<Event> {
        let setup = &self.setup;
        let fits = checkpoint.picture_idx < setup.count()
            && checkpoint.picture.as_ref().is_none_or(|kept| {
                kept.step_idx <= setup.n_steps()
                    && kept.latents.len() == setup.latent_shape().iter().product::<usize>()
                    && kept.buffers.len() == setup.schedule.n_buffers
            });
        if !matches!(self.at, At::Encode) || !fits {
            return refuse("checkpoint", "of another request or after the first step", "resume the same request first");
        }
        let Some(encoded) = self.step(progress).await? else {
            return refuse("checkpoint", "of nothing", "resume a request that is not done");
        };
        let setup = &self.setup;
        self.picture_idx = checkpoint.picture_idx;
        self.done_flops += setup.picture_flops() * self.picture_idx as u64;
        let Some(PictureCheckpoint { step_idx, generator, latents, buffers }) = &checkpoint.picture else {
            return Ok(encoded);
        };
        self.at = match std::mem::replace(&mut self.at, At::Done) {
            At::Prepare(ready) => {
                let mut picture = setup.prepare(ready.start_picture.as_ref(), self.picture_idx)?;
                let upload = |values: &Vec<f32>| setup.runner.upload(values, &setup.latent_shape());
                picture.state = State {
                    latents: upload(latents)?,
                    buffers: buffers.iter().map(|b| b.as_ref().map(upload).transpose()).collect::<Result<_>>()?,
                };
                picture.generator = generator.clone();
                picture.step_idx = *step_idx;
                self.done_flops += setup.work.step * *step_idx as u64;
                setup.after_step(ready, Box::new(picture))
            }
            // Encoding leads to no other place.
            at @ (At::Encode | At::Denoise(..) | At::Decode(..) | At::Done) => at,
        };
        Ok(encoded)
    }
}
