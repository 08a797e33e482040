//! Stage 8: latents to pixels.

use super::setup::Setup;
use super::{Picture, Ready};
use crate::error::Result;
use crate::graph::Graph;
use crate::image::{RgbImage, from_unit};
use crate::pipeline::components::Part;
use crate::run::Runner;

/// The VAE's decoder, made ready when the first picture is decoded.
pub(super) struct Decoder<R: Runner> {
    program: Option<R::Program>,
    /// In f32, once a picture overflowed 16 bits.
    f32: Option<R::Program>,
}

impl<R: Runner> Default for Decoder<R> {
    fn default() -> Self {
        Decoder { program: None, f32: None }
    }
}

impl<R: Runner> Setup<R> {
    fn decoder_graph(&self) -> Result<Graph> {
        self.model.configs.decoder_graph(self.latent[0], self.latent[1])
    }

    /// Latents to pixels; where there is a mask, the rest of the picture is put back untouched: where only the masked part is
    /// drawn, at the picture's own size. Besides, whether the decoder was repeated in f32.
    pub async fn decode(
        &self,
        ready: &mut Ready<R>,
        picture: Picture<R::Tensor>,
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(RgbImage, bool)> {
        let (runner, config) = (&*self.runner, &self.inputs.config);
        let decoder = &mut ready.decoder;
        self.model.release(&[Part::Unet]);
        let weights = self.model.part_with(runner, Part::VaeDecoder, &self.loras, &mut |_| report(0)).await?;
        let program = match &mut decoder.program {
            Some(program) => program,
            empty => empty.insert(runner.prepare(self.decoder_graph()?).await?),
        };
        let inputs = [("latents", &picture.state.latents)];
        let mut repeated = false;
        let mut decoded = runner.run(program, &weights, &inputs, report).await?.swap_remove(0);
        if runner.count_non_finite(&decoded).await? > 0 {
            if decoder.f32.is_none() {
                decoder.f32 = runner.prepare_f32(self.decoder_graph()?).await?;
            }
            let Some(program) = &decoder.f32 else {
                return self.not_finite("the VAE's decoder", &[Part::VaeDecoder]).await;
            };
            repeated = true;
            decoded = runner.run(program, &weights, &inputs, report).await?.swap_remove(0);
            if runner.count_non_finite(&decoded).await? > 0 {
                return self.not_finite("the VAE's decoder", &[Part::VaeDecoder]).await;
            }
        }
        drop(weights);
        self.model.release(&[Part::VaeDecoder]);
        let values = runner.download(&decoded).await?;
        let mut image = from_unit(&values, config.width, config.height);
        let start_picture = ready.start_picture.as_ref();
        if let Some((original, repaint)) =
            start_picture.and_then(|start| Some((&start.pixels, start.repaint.as_ref()?)))
        {
            if let Some(overlay) = &repaint.overlay {
                return Ok((overlay.laid_over(&image), repeated));
            }
            for ((pixel, known), &hidden) in
                image.pixels.chunks_exact_mut(3).zip(original.pixels.chunks_exact(3)).zip(&repaint.mask.values)
            {
                if hidden < 0.5 {
                    pixel.copy_from_slice(known);
                }
            }
        }
        Ok((image, repeated))
    }
}
