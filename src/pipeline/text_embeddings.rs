//! The input of a text encoder (transformers' `CLIPTextEmbeddings`): for each token the sum of its row and its position's.
//!
//! A prompt uses a few of the rows of a table that takes 76 MB (SD 1.5's, in f16), so they are read from the checkpoint when
//! the prompt is encoded.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::model::clip::{POSITION_TABLE, TOKEN_TABLE};
use crate::model::config::ClipTextConfig;
use crate::weights::Weights;

/// The tables of one text encoder.
#[derive(Debug)]
pub struct TextEmbeddings {
    /// The weights with the tokens' table; `None` where nothing is read, and all rows are 0.
    tokens: Option<Weights>,
    width: usize,
    /// \[T,D\]
    positions: Vec<f32>,
}

impl TextEmbeddings {
    /// Reads the positions' rows.
    ///
    /// # Errors
    /// As [`Weights::read_f32`].
    pub async fn open(weights: Weights, config: &ClipTextConfig) -> Result<Self> {
        let positions = weights.read_f32(POSITION_TABLE).await?;
        Ok(TextEmbeddings { tokens: Some(weights), width: config.hidden_size, positions })
    }

    /// Rows of zeros, for runners that need no values.
    #[must_use]
    pub fn zeros(config: &ClipTextConfig) -> Self {
        let width = config.hidden_size;
        TextEmbeddings { tokens: None, width, positions: vec![0.0; config.max_position_embeddings * width] }
    }

    /// The values \[B,T,D\] for the ids \[B,T\] of whole texts. Each row is read once, in the order of the file.
    ///
    /// # Errors
    /// As [`Weights::read_values`], which refuses ids that the table does not have.
    pub async fn of(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut rows: BTreeMap<u32, Vec<f32>> = ids.iter().map(|&id| (id, Vec::new())).collect();
        for (&id, row) in &mut rows {
            *row = match &self.tokens {
                Some(weights) => weights.read_values(TOKEN_TABLE, id as usize * self.width, self.width).await?,
                None => vec![0.0; self.width],
            };
        }
        let of_tokens = ids.iter().flat_map(|id| &rows[id]);
        Ok(of_tokens.zip(self.positions.iter().cycle()).map(|(token, position)| token + position).collect())
    }
}
