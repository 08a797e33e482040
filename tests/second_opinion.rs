//! A second opinion on Stable Diffusion 1.5 beside diffusers': candle-transformers' own UNet, VAE and CLIP on the tiny
//! model, with the same weights and inputs. It shares candle's tensors with our runner, but no model code.
//!
//! Its VAE takes any config. Its UNet takes any but for the groups of the norms: the residual blocks on the way down and
//! up have 32 whatever the config says, so the tiny model gets 32 too, which needs no other weights. Its Stable Diffusion
//! CLIP takes only the published configs (the fields are private), so its general CLIP text model stands in, which has
//! the same architecture. SD 2 and XL are deliberately left out: candle-transformers has no pooled text and no size
//! conditioning, and diffusers' numbers in tests/modules.rs are the ones that count.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use std::rc::Rc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::text_model::{Activation, ClipTextConfig, ClipTextTransformer};
use candle_transformers::models::stable_diffusion::unet_2d::{
    BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig,
};
use candle_transformers::models::stable_diffusion::vae::{AutoEncoderKL, AutoEncoderKLConfig};
use darkroom::graph::Graph;
use darkroom::hub::folder::Folder;
use darkroom::model::clip::{ClipOutputs, text_encoder};
use darkroom::model::unet::{UNetShape, prompt_graph, step_graph};
use darkroom::model::vae::{decoder_graph, encoder_graph};
use darkroom::pipeline::{ActiveLoras, ModelComponents, ModelLoader, Part};
use darkroom::rng::Generator;
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use numbers::nchw_to_nhwc;

/// The largest difference allowed, relative to the largest value expected. Seen are 5e-7 for CLIP, 2e-6 for the VAE and
/// 1e-4 for the UNet, whose feed-forward layers candle-transformers computes with the tanh form of GELU where diffusers
/// and we have the exact one.
const TOLERANCE: f32 = 1e-3;

/// The tiny model, loaded by us.
struct Ours {
    folder: tempfile::TempDir,
    runner: CandleRunner,
    model: ModelComponents<CandleRunner>,
}

impl Ours {
    fn load() -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny::write_model("v1-5", folder.path(), tiny::Style::F32);
        let unet_config = folder.path().join("unet/config.json");
        let text = std::fs::read_to_string(&unet_config).unwrap();
        assert!(text.contains("\"norm_num_groups\": 8"), "{text}");
        std::fs::write(&unet_config, text.replace("\"norm_num_groups\": 8", "\"norm_num_groups\": 32")).unwrap();
        let runner = CandleRunner::cpu(Precision::F32);
        let source = Folder::open(folder.path()).unwrap();
        let model = pollster::block_on(ModelLoader::new(&source, &runner).load(&mut |_| true)).unwrap();
        Ours { folder, runner, model }
    }

    /// The same files, for candle-transformers.
    fn weights(&self, file: &str) -> VarBuilder<'static> {
        let bytes = std::fs::read(self.folder.path().join(file)).unwrap();
        VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap()
    }

    /// Runs a graph; results by name.
    fn run(
        &self,
        graph: Graph,
        weights: &<CandleRunner as Runner>::Weights,
        inputs: &[(&str, <CandleRunner as Runner>::Tensor)],
    ) -> Vec<(String, <CandleRunner as Runner>::Tensor)> {
        let names: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
        let program = pollster::block_on(self.runner.prepare(graph)).unwrap();
        let inputs: Vec<_> = inputs.iter().map(|(name, value)| (*name, value)).collect();
        let values = pollster::block_on(self.runner.run(&program, weights, &inputs, &mut |_| true)).unwrap();
        names.into_iter().zip(values).collect()
    }

    fn download(&self, results: &[(String, <CandleRunner as Runner>::Tensor)], name: &str) -> Vec<f32> {
        let (_, value) = results.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no result {name}"));
        pollster::block_on(self.runner.download(value)).unwrap()
    }
}

fn noise(seed: u64, shape: &[usize]) -> Vec<f32> {
    Generator::new(seed).randn(shape.iter().product())
}

fn theirs(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

/// A tensor's values, pictures channels-last as ours are.
fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    if tensor.rank() == 4 { nchw_to_nhwc(&flat, tensor.dims()) } else { flat }
}

/// Prints the largest difference relative to the largest value, and panics where it is too large.
fn agree(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let off = got.iter().zip(expected).fold(0.0f32, |max, (a, b)| max.max((a - b).abs())) / largest;
    println!("{what}: {off:.1e} of the largest value {largest:.3}");
    assert!(largest > 0.1, "{what}: {largest} is hardly a value");
    assert!(off <= TOLERANCE, "{what} differs by {off:.1e} of the largest value");
}

/// The weights of a part of the model.
fn part(
    runner: &CandleRunner,
    model: &ModelComponents<CandleRunner>,
    part: Part,
) -> Rc<<CandleRunner as Runner>::Weights> {
    pollster::block_on(model.part(runner, part, &mut |_| true)).unwrap()
}

#[test]
fn unet() {
    let ours = Ours::load();
    let config = &ours.model.configs.unet;
    let block = |out_channels, use_cross_attn| BlockConfig { out_channels, use_cross_attn, attention_head_dim: 4 };
    let their_config = UNet2DConditionModelConfig {
        blocks: vec![block(32, Some(1)), block(64, None)],
        layers_per_block: 2,
        norm_num_groups: 32,
        cross_attention_dim: 32,
        ..UNet2DConditionModelConfig::default()
    };
    let weights = ours.weights("unet/diffusion_pytorch_model.safetensors");
    let their_unet = UNet2DConditionModel::new(weights, 4, 4, false, their_config).unwrap();

    // Sides that differ, a batch and a single picture.
    for (batch, height, width, t) in [(2, 8, 12, 501.0), (1, 6, 10, 7.0)] {
        let (sample_shape, context_shape) = ([batch, 4, height, width], [batch, 77, 32]);
        let (sample, context) = (noise(1, &sample_shape), noise(2, &context_shape));
        let expected =
            their_unet.forward(&theirs(&sample, &sample_shape), t, &theirs(&context, &context_shape)).unwrap();

        let context = ours.runner.upload(&context, &context_shape).unwrap();
        let prompt = prompt_graph(config, batch, 77).unwrap();
        let prompt =
            ours.run(prompt, &part(&ours.runner, &ours.model, Part::Unet), &[("encoder_hidden_states", context)]);
        let nhwc = nchw_to_nhwc(&sample, &sample_shape);
        let mut inputs = vec![
            ("sample", ours.runner.upload(&nhwc, &[batch, height, width, 4]).unwrap()),
            ("timestep", ours.runner.upload(&vec![t as f32; batch], &[batch]).unwrap()),
        ];
        inputs.extend(prompt.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let graph = step_graph(config, UNetShape { batch, height, width, n_context: 77 }).unwrap();
        let got = ours.run(graph, &part(&ours.runner, &ours.model, Part::Unet), &inputs);
        agree(&format!("UNet at {width}x{height}"), &ours.download(&got, "out"), &values(&expected));
    }
}

#[test]
fn vae() {
    let ours = Ours::load();
    let config = &ours.model.configs.vae;
    let their_config = AutoEncoderKLConfig {
        block_out_channels: vec![16, 16, 32, 32],
        layers_per_block: 1,
        latent_channels: 4,
        norm_num_groups: 4,
        use_quant_conv: true,
        use_post_quant_conv: true,
    };
    let weights = ours.weights("vae/diffusion_pytorch_model.safetensors");
    let their_vae = AutoEncoderKL::new(weights, 3, 3, their_config).unwrap();

    let shape = [1, 4, 6, 10];
    let latents = noise(3, &shape);
    let expected = their_vae.decode(&theirs(&latents, &shape)).unwrap();
    // Ours divides by the scaling factor itself.
    let scaled: Vec<f32> = nchw_to_nhwc(&latents, &shape).iter().map(|x| x * config.scaling_factor as f32).collect();
    let latents = ours.runner.upload(&scaled, &[1, 6, 10, 4]).unwrap();
    let graph = decoder_graph(config, 1, 6, 10).unwrap();
    let name = graph.outputs[0].name.clone();
    let got = ours.run(graph, &part(&ours.runner, &ours.model, Part::VaeDecoder), &[("latents", latents)]);
    agree("VAE decoder", &ours.download(&got, &name), &values(&expected));

    // Their encoder gives a distribution that can only be drawn from. Its mean is what many draws have in common, and
    // that is no number to compare with at 1e-3, so the variance is taken out: the weights that make it are lowered
    // until a draw is the mean.
    let weights = ours.weights("vae/diffusion_pytorch_model.safetensors");
    let quiet = quiet_variance(&weights);
    let their_vae = AutoEncoderKL::new(quiet, 3, 3, their_vae.config.clone()).unwrap();
    let shape = [1, 3, 48, 80];
    let image: Vec<f32> = noise(4, &shape).iter().map(|x| x.clamp(-1.0, 1.0)).collect();
    let expected = their_vae.encode(&theirs(&image, &shape)).unwrap().sample().unwrap();
    let image = ours.runner.upload(&nchw_to_nhwc(&image, &shape), &[1, 48, 80, 3]).unwrap();
    let graph = encoder_graph(config, 1, 48, 80).unwrap();
    let name = graph.outputs[0].name.clone();
    let got = ours.run(graph, &part(&ours.runner, &ours.model, Part::VaeEncoder), &[("image", image)]);
    let moments = ours.download(&got, &name);
    let mean: Vec<f32> = moments.chunks_exact(8).flat_map(|pixel| pixel[..4].to_vec()).collect();
    agree("VAE encoder", &mean, &values(&expected));
}

/// The VAE's weights with a log-variance of about -60 whatever the picture.
fn quiet_variance(weights: &VarBuilder<'static>) -> VarBuilder<'static> {
    let shapes = tiny::tensor_shapes("v1-5", "vae");
    let tensors = shapes.into_iter().map(|(name, shape)| {
        let tensor = weights.get(shape, &name).unwrap();
        let kept = |of: &Tensor, rest: f64| {
            let rest = (of.narrow(0, 4, 4).unwrap().zeros_like().unwrap() + rest).unwrap();
            Tensor::cat(&[&of.narrow(0, 0, 4).unwrap(), &rest], 0).unwrap()
        };
        let tensor = match name.as_str() {
            "quant_conv.weight" => kept(&tensor, 0.0),
            "quant_conv.bias" => kept(&tensor, -60.0),
            _ => tensor,
        };
        (name, tensor)
    });
    VarBuilder::from_tensors(tensors.collect(), DType::F32, &Device::Cpu)
}

#[test]
fn clip() {
    let ours = Ours::load();
    let encoder = &ours.model.configs.text_encoders[0];
    let their_config = ClipTextConfig {
        vocab_size: 600,
        embed_dim: 32,
        activation: Activation::QuickGelu,
        intermediate_size: 64,
        max_position_embeddings: 77,
        pad_with: None,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        projection_dim: 32,
    };
    let weights = ours.weights("text_encoder/model.safetensors");
    let their_clip = ClipTextTransformer::new(weights.pp("text_model"), &their_config).unwrap();
    for text in ["a red apple on a blue background", "", "zebra, crossing the street; at night!"] {
        let ids = encoder.tokenizer.encode(text).unwrap().ids;
        let their_ids = Tensor::from_slice(&ids, (1, 77), &Device::Cpu).unwrap();
        let expected = their_clip.forward_with_mask(&their_ids, usize::MAX).unwrap();

        let outputs = ClipOutputs { skip: 0, final_layer_norm: true, pooled: false };
        let graph = text_encoder(&encoder.config, encoder.name, 1, outputs).unwrap();
        let rows = [encoder.config.pooled_position(&ids) as u32];
        let tables = pollster::block_on(ours.model.text_embeddings(&ours.runner, 0, &ActiveLoras::default())).unwrap();
        let embeddings = pollster::block_on(tables.of(&ids)).unwrap();
        let inputs = [
            ("embeddings", ours.runner.upload(&embeddings, &[1, 77, 32]).unwrap()),
            ("pooled_rows", ours.runner.upload_ids(&rows, &[1]).unwrap()),
        ];
        let got = ours.run(graph, &part(&ours.runner, &ours.model, Part::TextEncoder(0)), &inputs);
        agree(&format!("CLIP of {text:?}"), &ours.download(&got, "hidden_states"), &values(&expected));
    }
}
