//! What diffusers' pipelines make of old files when they are constructed.
//!
//! `StableDiffusionPipeline` and `…Img2ImgPipeline` set `steps_offset` 1 and `clip_sample` false of a scheduler,
//! `…InpaintPipeline` sets `steps_offset` 1 and `skip_prk_steps` true; all three take a `sample_size` below 64 of a UNet
//! that was saved before diffusers 0.9 for 64. The XL pipelines and the latent consistency one change nothing.
//!
//! Which of them it is depends on what is drawn, not on the class in `model_index.json`, which serves all three.

use crate::pipeline::configs::ModelConfigs;
use crate::pipeline::job::Task;
use crate::sampler::{Correction, SchedulerConfig};

/// The `sample_size` below which an old UNet's is not believed.
const OLD_SAMPLE_SIZE: usize = 64;

impl ModelConfigs {
    /// Whether diffusers draws with a pipeline that corrects old files.
    fn is_corrected(&self) -> bool {
        let is_xl = self.index.is_xl() || self.unet.text_time.is_some();
        !is_xl && !self.index.class_name.starts_with("LatentConsistency")
    }

    /// The scheduler of the checkpoint as the pipeline for this task has it. A sampler that is chosen by name takes it
    /// over from there ([`SchedulerConfig::with_sampler`]).
    #[must_use]
    pub fn scheduler_of(&self, task: Task) -> SchedulerConfig {
        match task {
            _ if !self.is_corrected() => self.scheduler.clone(),
            Task::TextToImage | Task::ImageToImage => self.scheduler.corrected(Correction::Text),
            Task::Inpaint => self.scheduler.corrected(Correction::Inpaint),
        }
    }

    /// Height and width of the latents that the model was trained on, as the pipelines understand its config.
    #[must_use]
    pub fn sample_size(&self) -> Option<[usize; 2]> {
        let unet = &self.unet;
        match unet.sample_size {
            Some([side, same]) if unet.is_sample_square && unet.is_before_0_9 && self.is_corrected() => {
                Some([side.max(OLD_SAMPLE_SIZE), same.max(OLD_SAMPLE_SIZE)])
            }
            size => size,
        }
    }
}
