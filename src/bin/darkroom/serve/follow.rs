//! A job on behalf of a client that waits for it on its connection: when the client goes, the job is cancelled.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::watch;

use super::desk::Desk;
use super::failure::Failure;
use super::job::{Job, Png, Status};

/// See the module.
pub struct Followed {
    desk: Arc<Desk>,
    id: String,
    changed: watch::Receiver<()>,
}

/// A job that is over and has its pictures.
pub struct Finished {
    /// The pictures' files with their seeds.
    pub images: Vec<(u64, Png)>,
    /// Where each can be fetched, without the host.
    pub urls: Vec<String>,
    /// Width and height, in pixels.
    pub size: (usize, usize),
    /// Tokens of the prompt.
    pub n_tokens: usize,
    /// The end of the prompt that the model could not read.
    pub truncated: Option<String>,
    /// What the prompts' syntax does not know.
    pub notes: Vec<String>,
}

fn gone() -> Failure {
    Failure::fault("the job is forgotten")
}

impl Followed {
    /// Follows a job that was just added.
    ///
    /// # Errors
    /// 500 where it is forgotten already.
    pub fn new(desk: Arc<Desk>, id: String) -> Result<Self, Failure> {
        let changed = desk.watch(&id).ok_or_else(gone)?;
        Ok(Followed { desk, id, changed })
    }

    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Looks at the job.
    ///
    /// # Errors
    /// 500 where it is forgotten.
    pub fn look<T>(&self, look: impl FnOnce(&Job) -> T) -> Result<T, Failure> {
        self.desk.look(&self.id, |job, _| look(job)).ok_or_else(gone)
    }

    /// Waits until it changes.
    ///
    /// # Errors
    /// 500 where it is forgotten.
    pub async fn changed(&mut self) -> Result<(), Failure> {
        self.changed.changed().await.map_err(|_| gone())
    }

    /// Waits until it is over; calls `look` whenever it has changed.
    ///
    /// # Errors
    /// What it failed with; 410 where somebody cancelled it.
    pub async fn finished(&mut self, mut look: impl FnMut(&Job)) -> Result<Finished, Failure> {
        loop {
            let is_over = self.look(|job| {
                look(job);
                job.status.is_over()
            })?;
            if is_over {
                return self.outcome();
            }
            self.changed().await?;
        }
    }

    /// What came of a job that is over.
    ///
    /// # Errors
    /// As [`Followed::finished`].
    pub fn outcome(&self) -> Result<Finished, Failure> {
        let failure = self.look(|job| match job.status {
            Status::Done => None,
            Status::Failed => Some(job.failure.clone().unwrap_or_else(gone)),
            // Clients repeat what is answered with 409.
            _ => Some(
                job.failure
                    .clone()
                    .unwrap_or_else(|| Failure::new(StatusCode::GONE, "cancelled", "the job was cancelled")),
            ),
        })?;
        failure.map_or_else(|| self.so_far(), Err)
    }

    /// The pictures that are there, of a job that may have been cancelled.
    ///
    /// # Errors
    /// 500 where it is forgotten.
    pub fn so_far(&self) -> Result<Finished, Failure> {
        let finished = self.look(|job| Finished {
            images: job.images.clone(),
            urls: (0..job.images.len()).map(|image| job.image_url(image)).collect(),
            size: (job.request.config.width, job.request.config.height),
            n_tokens: job.n_tokens,
            truncated: job.truncated.clone(),
            notes: job.notes.clone(),
        })?;
        for image in 0..finished.images.len() {
            // Whoever waited for it has it.
            self.desk.fetch(&self.id, image);
        }
        Ok(finished)
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        // One that is over stays as it is.
        self.desk.cancel(&self.id);
    }
}
