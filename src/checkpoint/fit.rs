//! What drawing a picture at a model's own size takes, planned from headers: for `darkroom inspect` and the page.

use std::rc::Rc;

use crate::checkpoint::identity::{Family, Prediction, Task};
use crate::checkpoint::inspect::Fit;
use crate::checkpoint::single::{SingleFile, SingleFileSettings};
use crate::error::Result;
use crate::graph::WeightSpec;
use crate::hub::published::Published;
use crate::hub::{Component, Layer, ModelFile, Source};
use crate::pipeline::ModelConfigs;
use crate::pipeline::plan::{Plan, PlanSettings, plan};
use crate::run::gpu::Caps;
use crate::run::gpu::Element;
use crate::weights::{ByteSource, LocalFuture, WeightType, Weights};

/// Plans a model at its own size on any adapter with f16.
///
/// # Errors
/// Whatever is wrong with it: a tensor that is missing or has another shape, a configuration.
pub async fn fit(source: &dyn Source) -> Result<Fit> {
    let files = source.list().await?;
    let configs = ModelConfigs::read(source, &files).await?;
    let mut n_values = 0;
    for component in configs.components() {
        let specs = configs.weight_specs(component)?;
        n_values += specs.iter().map(|spec| spec.shape.iter().product::<usize>() as u64).sum::<u64>();
    }
    let plan_in = async |weights| {
        plan(
            source,
            &PlanSettings { weights: Some(weights), ..PlanSettings::new(Caps::guaranteed(true), Element::F16) },
        )
        .await
    };
    let plan = plan_in(WeightType::F16).await?;
    let [q8_0, q4_0] = [plan_in(WeightType::Q8_0).await?, plan_in(WeightType::Q4_0).await?];
    let bytes = |plan: &Plan| [plan.resident_peak_bytes, plan.staged_peak_bytes];
    Ok(Fit {
        width: plan.width,
        height: plan.height,
        gpu_resident_bytes: plan.resident_peak_bytes,
        gpu_staged_bytes: plan.staged_peak_bytes,
        gpu_weight_bytes: plan.weight_bytes,
        gpu_q8_0_bytes: bytes(&q8_0),
        gpu_q4_0_bytes: bytes(&q4_0),
        cpu_f32_bytes: n_values * size_of::<f32>() as u64,
        assumed: Vec::new(),
    })
}

/// The same of a checkpoint in one file. A component that it lacks is taken to be the published one; a Stable Diffusion 2
/// that says nowhere what it predicts is taken to be the larger one, of 768 pixels.
///
/// # Errors
/// As [`fit`], and as [`SingleFile::open`].
pub async fn fit_single(source: Box<dyn ByteSource>, settings: SingleFileSettings, undecided: bool) -> Result<Fit> {
    let mut assumed = Vec::new();
    let prediction = if undecided { Some(Prediction::Velocity) } else { settings.prediction };
    if undecided {
        assumed.push("as a model of 768 pixels, which predicts velocity (v)".to_owned());
    }
    let file =
        SingleFile::open(source.name().to_owned(), source, SingleFileSettings { prediction, ..settings }).await?;
    let identity = file.identity().clone();
    let missing = identity.missing();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|component| component.folder()).collect();
        assumed.push(format!("with the published {} in place of what it lacks", names.join(" and ")));
    }
    let version = match (identity.family, identity.task) {
        (Some(Family::Xl), _) => crate::model::SDVersion::Xl,
        (Some(Family::Sd2), Some(Task::Inpaint)) => crate::model::SDVersion::V2Inpaint,
        (Some(Family::Sd2), _) => crate::model::SDVersion::V2_1,
        _ => crate::model::SDVersion::V1_5,
    };
    let whole = Completed { base: Rc::new(file), missing, published: Published::new(version) };
    Ok(Fit { assumed, ..fit(&whole).await? })
}

/// A model whose missing components are the published ones, of which there are headers alone.
struct Completed {
    base: Rc<dyn Source>,
    missing: Vec<Component>,
    published: Published,
}

impl Layer for Completed {
    fn base(&self) -> &dyn Source {
        &*self.base
    }

    fn weights<'a>(
        &'a self,
        component: Component,
        files: &'a [ModelFile],
        wanted: &'a [WeightSpec],
    ) -> LocalFuture<'a, Result<Weights>> {
        if !self.missing.contains(&component) {
            return self.base.weights(component, files, wanted);
        }
        Box::pin(async move {
            let files = self.published.list().await?;
            self.published.weights(component, &files, wanted).await
        })
    }
}
