//! `darkroom models` and `darkroom download`.

use clap::Args;
use darkroom::Result;
use darkroom::checkpoint::local::Place;
use darkroom::hub::Variant;
use darkroom::hub::cache::{CacheState, HubCache};
use darkroom::model::SDVersion;
use serde_json::json;

use crate::bar::Bar;
use crate::source;
use crate::{print_json, print_line, print_pair};

/// `darkroom models`.
#[derive(Args)]
pub struct ListArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `darkroom download`.
#[derive(Args)]
pub struct DownloadArgs {
    /// A version, or owner/repo[@revision].
    #[arg(value_name = "MODEL")]
    model: String,
    /// The files to take where there are several: fp16, or none for the plain ones [default: fp16 where there are any].
    #[arg(long, value_name = "fp16|none")]
    variant: Option<Variant>,
}

/// Prints the seven versions.
///
/// # Errors
/// When the cache is there and cannot be read.
pub fn list(args: &ListArgs) -> Result<()> {
    let cache = HubCache::from_env()?;
    let mut rows = Vec::new();
    for version in SDVersion::ALL {
        let (state, cached_bytes) = match cache.version_state(version, &Variant::default())? {
            CacheState::Complete(model) => ("cached", model.bytes),
            CacheState::Partial(bytes) => ("partly cached", bytes),
            CacheState::Absent => ("not cached", 0),
        };
        rows.push((version, state, cached_bytes));
    }
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(version, state, cached_bytes)| {
                let (width, height) = version.default_size();
                json!({ "version": version.key(), "name": version.display_name(), "repository": version.repository(),
                    "bytes": version.approximate_download_bytes(), "cached": *state == "cached", "cached_bytes": cached_bytes,
                    "width": width, "height": height, "steps": version.default_steps(),
                    "guidance_scale": version.default_guidance_scale() })
            })
            .collect();
        return print_json(&json!(rows));
    }
    for (version, state, _) in rows {
        let gigabytes = version.approximate_download_bytes() as f64 / 1e9;
        let (key, repository) = (version.key(), version.repository());
        print_line(format_args!("{key:<13} {gigabytes:>5.1} GB  {state:<14} {repository}"))?;
    }
    Ok(())
}

/// Brings a model into the cache and says where it is.
///
/// # Errors
/// What the Hub or its cache says.
pub fn download(args: &DownloadArgs) -> Result<()> {
    let model = source::parse(&args.model)?;
    let bar = Bar::new();
    let model = model.fetch(&bar, args.variant.as_ref())?;
    drop(bar);
    let path = match &model.place {
        Place::Folder(folder) => folder.root(),
        Place::File(path) => path,
    };
    print_pair(model.label, path.display())
}
