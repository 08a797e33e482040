//! Where the Hugging Face cache is and which Hub fills it. It deliberately reads the environment in one place only.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The Hub where no other endpoint is set.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where the cache is and which Hub fills it.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// The folder with `models--owner--name` folders.
    pub cache_dir: PathBuf,
    /// The Hub's address, without a slash at the end.
    pub endpoint: String,
    /// The access token for private and gated repositories.
    pub token: Option<String>,
    /// Whether no request may be made.
    pub offline: bool,
}

impl HubSettings {
    /// The settings that the environment says.
    ///
    /// # Errors
    /// [`Error::Hub`] where neither a variable nor a home folder tells where the cache is, or the endpoint is no
    /// address.
    pub fn from_env() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        Self::from_variables(&variable, std::env::home_dir())
    }

    /// The settings that a set of variables says, for a user with this home folder: [`HubSettings::from_env`] without
    /// the process's own environment.
    ///
    /// # Errors
    /// As [`HubSettings::from_env`].
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Result<Self> {
        let set = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let hf_home = set("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("huggingface")))
            .or_else(|| home.map(|home| home.join(".cache").join("huggingface")));
        let in_home = |name: &str| hf_home.as_ref().map(|hf_home| hf_home.join(name));
        let cache_dir = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| in_home("hub")).ok_or_else(|| {
            refuse("there is no home folder, so the cache has no place: set HF_HOME to a folder".to_owned())
        })?;
        // hf-hub makes links between absolute paths only.
        let cache_dir = std::path::absolute(&cache_dir).map_err(|source| Error::io(&cache_dir, source))?;

        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !(endpoint.starts_with("https://") || endpoint.starts_with("http://")) {
            return Err(refuse(format!("HF_ENDPOINT {endpoint:?} is no address: it starts with https:// or http://")));
        }

        let token_path = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| in_home("token"));
        let saved_token = || {
            // Most people have no token file, and no repository that is open needs one.
            let text = std::fs::read_to_string(token_path?).ok()?;
            Some(text.trim().to_owned()).filter(|token| !token.is_empty())
        };
        let token = set("HF_TOKEN").or_else(saved_token);
        let is_true = |text: String| matches!(text.to_lowercase().as_str(), "1" | "true" | "yes" | "on");
        Ok(HubSettings { cache_dir, endpoint, token, offline: set("HF_HUB_OFFLINE").is_some_and(is_true) })
    }
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token must not end up in a log.
        let token = self.token.as_ref().map(|_| "set");
        f.debug_struct("HubSettings")
            .field("cache_dir", &self.cache_dir)
            .field("endpoint", &self.endpoint)
            .field("token", &token)
            .field("offline", &self.offline)
            .finish()
    }
}

fn refuse(reason: String) -> Error {
    Error::Hub { repo: "Hugging Face cache".to_owned(), reason }
}
