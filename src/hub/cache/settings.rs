//! Where the Hugging Face cache is and which Hub fills it, from the variables that `huggingface_hub` reads, by their
//! present and former names. `~` and `$NAME` are expanded as there, since `.env` files and containers pass them on as they
//! stand; what cannot be expanded is refused, so that no folder called `~` is ever made.
//!
//! It deliberately reads the environment in one place only.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::hub::address::endpoint;
use crate::hub::remote::HUGGING_FACE;

/// Where the cache is and which Hub fills it.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// The folder with `models--owner--name` folders.
    pub cache_dir: PathBuf,
    /// The folder for files that are not from a Hub, with a folder for each library that keeps some.
    pub assets_dir: PathBuf,
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
    /// [`Error::Hub`] where neither a variable nor a home folder tells where the cache is, a path names another user's
    /// home or a variable that is not set, or the endpoint is no address.
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
        let path = |name: &'static str| match set(name) {
            Some(text) => expand(name, &text, &set, home.as_deref()).map(Some),
            None => Ok(None),
        };
        let hf_home = match (path("HF_HOME")?, path("XDG_CACHE_HOME")?) {
            (Some(hf_home), _) => Some(hf_home),
            (None, Some(cache)) => Some(cache.join("huggingface")),
            (None, None) => home.as_ref().map(|home| home.join(".cache").join("huggingface")),
        };
        let in_home = |name: &str| hf_home.as_ref().map(|hf_home| hf_home.join(name));
        let named = path("HF_HUB_CACHE")?.map_or_else(|| path("HUGGINGFACE_HUB_CACHE"), |cache| Ok(Some(cache)))?;
        let cache_dir = named.or_else(|| in_home("hub")).ok_or_else(|| {
            refuse("there is no home folder, so the cache has no place: set HF_HOME to a folder".to_owned())
        })?;
        // Messages name the folder, which may be read elsewhere than here.
        let absolute = |path: PathBuf| std::path::absolute(&path).map_err(|source| Error::io(&path, source));
        let assets = path("HF_ASSETS_CACHE")?.map_or_else(|| path("HUGGINGFACE_ASSETS_CACHE"), |dir| Ok(Some(dir)))?;
        // Beside the cache, where a variable moved the cache alone.
        let assets_dir = assets.or_else(|| in_home("assets")).unwrap_or_else(|| cache_dir.with_file_name("assets"));
        let (cache_dir, assets_dir) = (absolute(cache_dir)?, absolute(assets_dir)?);

        let address = set("HF_ENDPOINT").unwrap_or_else(|| HUGGING_FACE.to_owned());
        let endpoint = endpoint(&address).map_err(|_| {
            refuse(format!("HF_ENDPOINT {address:?} is not an address: it starts with https:// or http://"))
        })?;

        let token_path = path("HF_TOKEN_PATH")?.or_else(|| in_home("token"));
        let saved_token = || {
            // Most people have no token file, and no repository that is open needs one.
            let text = std::fs::read_to_string(token_path?).ok()?;
            Some(text.trim().to_owned()).filter(|token| !token.is_empty())
        };
        let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")).or_else(saved_token);
        let is_true = |text: String| matches!(text.to_lowercase().as_str(), "1" | "true" | "yes" | "on");
        // A value that means no counts, too: the former name is not looked at then.
        let offline = set("HF_HUB_OFFLINE").or_else(|| set("TRANSFORMERS_OFFLINE")).is_some_and(is_true);
        Ok(HubSettings { cache_dir, assets_dir, endpoint, token, offline })
    }
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token must not end up in a log.
        let token = self.token.as_ref().map(|_| "set");
        f.debug_struct("HubSettings")
            .field("cache_dir", &self.cache_dir)
            .field("assets_dir", &self.assets_dir)
            .field("endpoint", &self.endpoint)
            .field("token", &token)
            .field("offline", &self.offline)
            .finish()
    }
}

/// The path of a variable, with `~`, `$NAME` and `${NAME}` in it replaced, as Python's `expanduser` and `expandvars` do.
fn expand(
    variable: &'static str,
    text: &str,
    set: &dyn Fn(&str) -> Option<String>,
    home: Option<&Path>,
) -> Result<PathBuf> {
    let cannot = |what: String| refuse(format!("{variable} is {text:?}, but {what}: write the whole path"));
    let home = || home.map(|home| home.display().to_string());
    let (mut expanded, mut rest) = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', std::path::MAIN_SEPARATOR]) => {
            (home().ok_or_else(|| cannot("there is no home folder".to_owned()))?, rest)
        }
        Some(_) => return Err(cannot("~ stands for one's own home folder only, as ~/models".to_owned())),
        None => (String::new(), text),
    };
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, after) = match after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            Some(braced) => braced,
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
            }
        };
        if name.is_empty() {
            expanded.push('$');
        } else {
            let value = set(name).or_else(|| if name == "HOME" { home() } else { None });
            expanded.push_str(&value.ok_or_else(|| cannot(format!("the variable {name} is not set")))?);
        }
        rest = after;
    }
    expanded.push_str(rest);
    Ok(PathBuf::from(expanded))
}

fn refuse(reason: String) -> Error {
    Error::Hub { repo: "Hugging Face cache".to_owned(), reason }
}
