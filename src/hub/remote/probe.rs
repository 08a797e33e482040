//! The listing of a server of plain files, which has none: the names that a model's files can have are tried one by one.

use super::super::http::Http;
use super::super::{ListedFile, Needs, RepoId};
use super::Remote;
use super::refusal::Refusal;

impl Remote {
    /// Tries the names that a model's files can have.
    pub(super) async fn probe(&self, http: &dyn Http, repo: &RepoId, commit: &str) -> Result<Vec<ListedFile>, Refusal> {
        let index = self.text(http, repo, &self.file_url(repo.path(), commit, "model_index.json")).await?.0;
        let needs = Needs::from_model_index(&format!("{repo}: model_index.json"), &index)?;
        let mut listed = vec![ListedFile::new("model_index.json", Some(index.len() as u64))];
        for path in possible_paths(needs) {
            let url = self.file_url(repo.path(), commit, &path);
            match self.head(http, &repo.to_string(), &url).await {
                Ok(head) => listed.push(ListedFile::new(path, head.bytes)),
                Err(Refusal::Status(404 | 403)) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(listed)
    }
}

/// Every name of a file that [`super::super::choose_files`] looks for, except weights in parts.
fn possible_paths(needs: Needs) -> Vec<String> {
    let mut paths = vec!["scheduler/scheduler_config.json".to_owned()];
    let weights =
        |stem: &str| [format!("{stem}.fp16.safetensors"), format!("{stem}.safetensors"), "config.json".to_owned()];
    for suffix in if needs.second_encoder { &["", "_2"][..] } else { &[""][..] } {
        let names = [
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
            "added_tokens.json",
            "special_tokens_map.json",
            "tokenizer_config.json",
        ];
        paths.extend(names.map(|name| format!("tokenizer{suffix}/{name}")));
        paths.extend(weights("model").map(|name| format!("text_encoder{suffix}/{name}")));
    }
    for folder in ["unet", "vae"] {
        paths.extend(weights("diffusion_pytorch_model").map(|name| format!("{folder}/{name}")));
    }
    paths
}
