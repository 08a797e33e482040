//! Files of the Hub and of other hosts, by their headers.

use std::rc::Rc;

use darkroom::Result;
use darkroom::checkpoint::inspect::Report;
use darkroom::hub::RepoId;
use darkroom::hub::cache::HubSettings;
use darkroom::hub::http::Http;
use darkroom::hub::native::NativeHttp;
use darkroom::hub::peek::{self, PeekedModel};
use darkroom::hub::remote::Remote;
use darkroom::weights::ByteSource;
use pollster::block_on;

fn http() -> Rc<dyn Http> {
    Rc::new(NativeHttp::default())
}

/// What is behind any address.
///
/// # Errors
/// As [`peek::open_address`] and [`darkroom::checkpoint::inspect::inspect`].
pub fn url(address: &str) -> Result<Report> {
    super::with_fit(block_on(peek::open_address(&http(), address))?, None)
}

/// One file of a repository.
///
/// # Errors
/// As [`peek::open_file`].
pub fn file(settings: &HubSettings, repo: &RepoId, path: &str) -> Result<Rc<dyn ByteSource>> {
    let remote = Remote::hub(&settings.endpoint, settings.token.as_deref())?;
    block_on(peek::open_file(&http(), &remote, repo, path))
}

/// A model in diffusers' layout on the Hub.
///
/// # Errors
/// As [`PeekedModel::find`].
pub fn model(settings: &HubSettings, repo: &RepoId) -> Result<PeekedModel> {
    let remote = Remote::hub(&settings.endpoint, settings.token.as_deref())?;
    block_on(PeekedModel::find(&http(), remote, repo))
}
