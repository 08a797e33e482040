//! What a file is, before or after this browser keeps it: by its header, in the words of the page.

use std::rc::Rc;

use serde::Serialize;
use wasm_bindgen::prelude::*;

use super::models::{BlobSource, Models};
use super::types::Inspection;
use crate::checkpoint::fit::{fit, fit_single};
use crate::checkpoint::inspect::{Report, inspect, inspect_model};
use crate::checkpoint::single::SingleFileSettings;
use crate::error::Result as OwnResult;
use crate::hub::Source;
use crate::hub::address::Origin;
use crate::hub::http::Http;
use crate::hub::peek::{self, PeekedModel};
use crate::hub::web::WebHttp;
use crate::weights::{ByteSource, Shared};

/// Tells what a file is that was picked or dropped: kind, family, components, prediction, what it takes and what to do with
/// it. Its header is read alone. `clip_merges` is CLIP's `merges.txt`; without it nothing is said about memory.
///
/// # Errors
/// A JavaScript `Error` that says what is wrong with the file.
#[wasm_bindgen(unchecked_return_type = "Inspection")]
pub async fn inspect_file(
    file: web_sys::Blob,
    name: String,
    yaml: Option<String>,
    clip_merges: Option<String>,
) -> Result<JsValue, JsValue> {
    let source: Rc<dyn ByteSource> = Rc::new(BlobSource { path: name, blob: file });
    let settings = SingleFileSettings { yaml, clip_merges, ..SingleFileSettings::default() };
    told(of_file(source, settings).await?)
}

#[wasm_bindgen]
impl Models {
    /// Tells what a model is, as [`inspect_file`] does: one that is kept, or one that is not, by `owner/repo`,
    /// `owner/repo/path/file.safetensors` or an address, of which the headers are fetched.
    ///
    /// # Errors
    /// When it is not there, or is no file of weights.
    #[wasm_bindgen(unchecked_return_type = "Inspection")]
    pub async fn inspect(&self, model: String, clip_merges: Option<String>) -> Result<JsValue, JsValue> {
        told(self.report_of(&model, clip_merges).await?)
    }
}

impl Models {
    async fn report_of(&self, model: &str, clip_merges: Option<String>) -> OwnResult<Report> {
        if self.is_kept(model).await? {
            let stored = self.source(model).await?;
            let Some(path) = stored.single_file() else { return of_model(&stored).await };
            let source: Rc<dyn ByteSource> = Rc::from(stored.open(path).await?);
            let config = stored.own_config().map(|config| Rc::new(config) as Rc<dyn Source>);
            let yaml = stored.own_yaml().await?;
            return of_file(source, SingleFileSettings { yaml, config, clip_merges, ..SingleFileSettings::default() })
                .await;
        }
        let http: Rc<dyn Http> = Rc::new(WebHttp);
        let settings = SingleFileSettings { clip_merges, ..SingleFileSettings::default() };
        match self.origin(model)? {
            Origin::Address(url) => of_file(peek::open_address(&http, url.as_str()).await?, settings).await,
            Origin::File(file) => {
                let source = peek::open_file(&http, self.remote(), file.repo(), file.path()).await?;
                of_file(source, settings).await
            }
            Origin::Model(_) => {
                let repo = crate::hub::remote::repositories(model)?.into_iter().next();
                let repo = repo.map_or_else(|| model.parse(), Ok)?;
                of_model(&PeekedModel::find(&http, self.remote().clone(), &repo).await?).await
            }
        }
    }
}

/// What a file is, and what it takes where it is a model.
async fn of_file(source: Rc<dyn ByteSource>, settings: SingleFileSettings) -> OwnResult<Report> {
    let report = inspect(Box::new(Shared(Rc::clone(&source))), settings.yaml.as_deref()).await?;
    let can_be_planned = settings.clip_merges.is_some() && (report.opens || settings.config.is_some());
    if report.refused || !can_be_planned || !matches!(report.kind, "checkpoint" | "unet") {
        return Ok(report);
    }
    let undecided = report.prediction == Some("undecided") && settings.config.is_none();
    Ok(report.with_fit(fit_single(Box::new(Shared(source)), settings, undecided).await))
}

/// The same of a model in diffusers' layout.
async fn of_model(source: &dyn Source) -> OwnResult<Report> {
    let report = inspect_model(source, &source.list().await?).await?;
    Ok(if report.opens { report.with_fit(fit(source).await) } else { report })
}

/// Maps become objects, as a page expects them.
fn told(report: Report) -> Result<JsValue, JsValue> {
    let report = report.for_page();
    let inspection = Inspection { summary: report.line(), rows: report.rows(), report };
    Ok(inspection.serialize(&serde_wasm_bindgen::Serializer::new().serialize_maps_as_objects(true))?)
}
