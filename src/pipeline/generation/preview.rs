//! What a picture will become, as far as the last step knows: cheap enough to be shown after each.

use super::{Generation, Picture};
use crate::error::Result;
use crate::image::RgbImage;
use crate::run::Runner;

/// Latents of a preview at most: four bytes each are 64 KiB.
const MAX_PREVIEW_PIXELS: usize = 128 * 128;

impl<R: Runner> Generation<R> {
    /// Roughly what the picture will become as far as the last step knows, one pixel \[h,w\] for each latent, every second or
    /// third of large pictures: cheap enough for every step. `None` between pictures.
    ///
    /// # Errors
    /// When the device is lost.
    pub async fn preview(&self) -> Result<Option<RgbImage>> {
        let Some(picture) = self.picture() else { return Ok(None) };
        let setup = &self.setup;
        let [h, w] = setup.latent;
        let step = (1..).find(|step| h.div_ceil(*step) * w.div_ceil(*step) <= MAX_PREVIEW_PIXELS).unwrap_or(1);
        let colours = setup.model.configs.preview_colours();
        let rgba = setup.runner.rgba(&self.without_noise(picture)?, step, &colours).await?;
        let pixels = rgba.chunks_exact(4).flat_map(|pixel| pixel[..3].iter().copied()).collect();
        Ok(Some(RgbImage::new(w.div_ceil(step), h.div_ceil(step), pixels)?))
    }

    /// x0 as the last step predicted it: at the noise level that the step led to, latents are keep·x0 + add·noise, and the
    /// UNet predicts the noise, or a mixture of both.
    fn without_noise(&self, picture: &Picture<R::Tensor>) -> Result<R::Tensor> {
        let setup = &self.setup;
        let latents = &picture.state.latents;
        let done = picture.step_idx.checked_sub(1).and_then(|idx| setup.schedule.steps.get(idx));
        let (Some(output), Some((keep, add))) = (&picture.output, done.and_then(|step| step.renoise)) else {
            return Ok(latents.clone());
        };
        match setup.model.configs.scheduler.prediction_type() {
            "epsilon" => setup.runner.lincomb(&[(1.0 / keep, latents), (-add / keep, output)], None),
            "v_prediction" => {
                let square = keep * keep + add * add;
                setup.runner.lincomb(&[(keep / square, latents), (-add / square.sqrt(), output)], None)
            }
            _ => Ok(output.clone()),
        }
    }
}
