//! Where a generation was after a step, and going on from there on another device.

use super::{Generation, State, refuse};
use crate::error::Result;
use crate::pipeline::job::{Event, Stage};
use crate::rng::Generator;
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
    generator: Generator,
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
        if let Some(picture) = &self.picture {
            let latents = self.runner.download(&picture.state.latents).await?;
            let mut buffers = Vec::with_capacity(picture.state.buffers.len());
            for buffer in &picture.state.buffers {
                buffers.push(match buffer {
                    Some(buffer) => Some(self.runner.download(buffer).await?),
                    None => None,
                });
            }
            let generator = picture.generator.clone();
            kept = Some(PictureCheckpoint { step_idx: self.step_idx, generator, latents, buffers });
        }
        Ok(Checkpoint { picture_idx: self.picture_idx, picture: kept })
    }

    /// Goes on from a checkpoint of the same request, on another device or the same: prompts and pictures are encoded
    /// anew, steps that were done are not. To be called before the first [`Generation::step`].
    ///
    /// # Errors
    /// As [`Generation::step`]; [`crate::Error::Request`] after the first step, or for another request's checkpoint.
    pub async fn resume(&mut self, checkpoint: &Checkpoint, progress: &mut dyn FnMut(f64) -> bool) -> Result<Event> {
        let fits = checkpoint.picture_idx < self.inputs.config.count
            && checkpoint.picture.as_ref().is_none_or(|kept| {
                let n_values = self.latent.iter().product::<usize>() * self.model.configs.vae.latent_channels;
                kept.step_idx <= self.n_steps()
                    && kept.latents.len() == n_values
                    && kept.buffers.len() == self.schedule.n_buffers
            });
        if self.stage != Stage::Encode || !fits {
            return refuse("checkpoint", "of another request or after the first step", "resume the same request first");
        }
        let Some(encoded) = self.step(progress).await? else {
            return refuse("checkpoint", "of nothing", "resume a request that is not done");
        };
        self.picture_idx = checkpoint.picture_idx;
        let a_picture = self.step_flops * self.n_steps() as u64 + self.decode_flops;
        self.done_flops += a_picture * self.picture_idx as u64;
        if let Some(PictureCheckpoint { step_idx, generator, latents, buffers }) = &checkpoint.picture {
            self.prepare()?;
            let [h, w] = self.latent;
            let shape = [1, h, w, self.model.configs.vae.latent_channels];
            let upload = |values: &Vec<f32>| self.runner.upload(values, &shape);
            let state = State {
                latents: upload(latents)?,
                buffers: buffers.iter().map(|b| b.as_ref().map(upload).transpose()).collect::<Result<_>>()?,
            };
            if let Some(picture) = &mut self.picture {
                picture.generator = generator.clone();
                picture.state = state;
            }
            self.step_idx = *step_idx;
            self.done_flops += self.step_flops * *step_idx as u64;
            self.stage = if self.step_idx == self.n_steps() { Stage::Decode } else { Stage::Denoise };
        }
        Ok(encoded)
    }
}
