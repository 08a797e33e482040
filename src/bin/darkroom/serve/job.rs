//! One job: a request that was taken, where it is, and what came of it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::failure::Failure;
use super::memory::{Held, Kind, Memory};
use super::menu::CheckedRequest;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Running,
    Done,
    Cancelled,
    Failed,
}

impl Status {
    pub fn is_over(self) -> bool {
        matches!(self, Status::Done | Status::Cancelled | Status::Failed)
    }
}

/// How far a job is, in the words of the page's protocol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// `queued`, `loading`, `encoding`, `denoising` or `decoding`.
    pub stage: &'static str,
    /// The part of the whole that is done, 0 to 1.
    pub fraction: f64,
    /// Which picture, from 0.
    pub picture: usize,
    /// The step that is computed, from 1; 0 before the first.
    pub step: usize,
    /// Steps of one picture; 0 before it is known.
    pub steps: usize,
}

impl Progress {
    /// In JSON, where the steps have their former name, too.
    pub fn in_json(&self) -> Value {
        let Progress { stage, fraction, picture, step, steps } = self;
        json!({ "stage": stage, "fraction": fraction, "picture": picture, "step": step, "steps": steps, "n_steps": steps })
    }
}

/// What a picture looks like while it is drawn.
#[derive(Clone)]
pub struct Preview {
    pub png: Png,
    /// Which picture, from 0.
    pub picture: usize,
    /// The step that it shows, from 1.
    pub step: usize,
    /// Steps of the picture.
    pub steps: usize,
}

/// A picture's file, a PNG unless the order says otherwise, counted until the last answer that sends it is sent. A clone shares it.
#[derive(Clone)]
pub struct Png(Arc<(Vec<u8>, Held)>);

impl Png {
    pub fn new(bytes: Vec<u8>, memory: &Arc<Memory>) -> Self {
        let held = memory.count(Kind::Results, bytes.len() as u64);
        Png(Arc::new((bytes, held)))
    }
}

impl Deref for Png {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.0
    }
}

impl AsRef<[u8]> for Png {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// One request that was taken, and what is known of it.
pub struct Job {
    pub id: String,
    pub request: CheckedRequest,
    pub status: Status,
    pub progress: Progress,
    /// Finished pictures with their seeds.
    pub images: Vec<(u64, Png)>,
    /// The newest preview, and how many there were.
    pub preview: Option<Preview>,
    pub n_previews: u64,
    /// Tokens of the prompt, once it is read.
    pub n_tokens: usize,
    /// The end of the prompt that the model could not read.
    pub truncated: Option<String>,
    /// What the prompts' syntax does not know.
    pub notes: Vec<String>,
    pub failure: Option<Failure>,
    /// What its prompts and pictures take.
    pub held: Held,
    /// Whether somebody was given each picture.
    pub is_fetched: Vec<bool>,
    pub added: Instant,
    /// Seconds since 1970 when it was taken.
    pub created: u64,
    pub cancelled: Arc<AtomicBool>,
    pub changed: watch::Sender<()>,
}

impl Job {
    /// Whoever drew `image` finds it there.
    pub fn image_url(&self, image: usize) -> String {
        format!("/v1/jobs/{}/images/{image}", self.id)
    }

    /// Everything about it in JSON. `position` counts the requests before it.
    pub fn to_json(&self, position: Option<usize>) -> Value {
        let config = &self.request.config;
        let image_of = |image: usize| {
            let mut object = json!({ "index": image, "seed": self.images[image].0, "url": self.image_url(image) });
            if let (true, Some(own)) = (self.request.has_chosen(), self.request.configs().get(image)) {
                object["prompt"] = json!(own.prompt);
                object["negative_prompt"] = json!(own.negative_prompt);
            }
            if let Some(variation) = self.request.variation_of(image) {
                object["variation_seed"] = json!(variation.seed);
            }
            object
        };
        let images: Vec<Value> = (0..self.images.len()).map(image_of).collect();
        let mut object = json!({
            "id": self.id, "status": self.status, "created": self.created, "progress": self.progress.in_json(), "images": images,
            "request": {
                "model": self.request.model, "prompt": config.prompt,
                "negative_prompt": config.negative_prompt, "width": config.width, "height": config.height,
                "any_size": config.any_size,
                "steps": config.steps, "guidance_scale": config.guidance_scale, "sampler": self.request.sampler.name(),
                "seed": config.seed, "count": config.count,
            },
        });
        for (name, template) in [("template", &config.template), ("negative_template", &config.negative_template)] {
            if let Some(template) = template {
                object["request"][name] = json!(template);
            }
        }
        if let Some(variation) = config.variation {
            object["request"]["variation_seed"] = json!(variation.seed);
            object["request"]["variation_strength"] = json!(variation.strength);
        }
        if !config.loras.is_empty() {
            object["request"]["loras"] = json!(config.loras);
        }
        if let Some(position) = position {
            object["position"] = json!(position);
        }
        if let Some(truncated) = &self.truncated {
            object["truncated"] = json!(truncated);
        }
        if !self.notes.is_empty() {
            object["notes"] = json!(self.notes);
        }
        if let Some(failure) = &self.failure {
            object["error"] = failure.body();
        }
        object
    }

    /// Adds what is worth telling, each once.
    pub fn add_notes(&mut self, notes: impl IntoIterator<Item = String>) {
        for note in notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Forgets the pictures that it was given, once nobody needs them.
    pub fn forget_uploads(&mut self) {
        (self.request.image, self.request.mask) = (None, None);
        self.held.set(self.request.n_bytes());
    }

    /// It is over: nothing that it was given is needed any more.
    pub fn let_go(&mut self) {
        self.forget_uploads();
        self.held.turn_into(Kind::Results);
        self.preview = None;
    }

    pub fn is_fetched(&self) -> bool {
        (0..self.images.len()).all(|image| self.is_fetched.get(image) == Some(&true))
    }
}
