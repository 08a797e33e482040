//! LoRAs by file, repository, address or name: `--lora`, `--lora-dir`, and tags in prompts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use darkroom::checkpoint::embedding;
use darkroom::checkpoint::lora::LoraFile;
use darkroom::hub::cache::HubCache;
use darkroom::hub::{FileUrl, RepoFile, RepoId};
use darkroom::pipeline::{Embedding, Lora, ModelConfigs, unknown_lora};
use darkroom::request::{LoraUse, Preset, Request};
use darkroom::weights::DiskSource;
use darkroom::{Error, Result};
use pollster::block_on;
use sha2::{Digest, Sha256};

use crate::bar::Bar;
use crate::source::{PLACES, is_path, is_weights, missing, show_download};

/// The name that kohya's metadata gives a file.
const OUTPUT_NAME: &str = "ss_output_name";

/// How deep a folder of LoRAs is looked through, how many LoRAs of it are listed, and how many files of any kind are met.
const MAX_DEPTH: usize = 8;
const MAX_FILES: usize = 10_000;
const MAX_MET: usize = 100_000;

/// How many names a message lists.
const MAX_LISTED: usize = 20;

/// How long a look at a folder is good for.
const FRESH: Duration = Duration::from_secs(1);

/// How much of a file is hashed at once.
const HASH_BYTES: usize = 1 << 20;

/// `--lora FILE[:STRENGTH[:TEXT_STRENGTH]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraArg {
    /// A path, `owner/repo[/file]`, or an address.
    pub file: String,
    /// What the request calls it.
    pub used: LoraUse,
}

/// Reads the option. Numbers are looked for from the end, since paths and addresses have colons of their own.
pub fn lora(text: &str) -> Result<LoraArg, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let mut file = text;
    let mut numbers = Vec::new();
    // A file of that very name is that file.
    while numbers.len() < 2 && !Path::new(file).is_file() {
        let Some((before, last)) = file.rsplit_once(':') else { break };
        let Some(value) = number(last) else { break };
        numbers.push(value);
        file = before;
    }
    if file.is_empty() {
        return Err("give a file: FILE[:STRENGTH[:TEXT_STRENGTH]]".into());
    }
    // Only strengths follow the name of a file of weights or of a repository.
    let is_name = |text: &str| is_weights(text) || text.parse::<RepoId>().is_ok();
    let name_end = file.match_indices(':').map(|(at, _)| at).find(|&at| is_name(&file[..at]));
    if let Some(at) = name_end.filter(|_| !Path::new(file).exists()) {
        let strengths = &text[at + 1..];
        return Err(match strengths.split(':').find(|strength| number(strength).is_none()) {
            Some(wrong) => format!("the strength {wrong:?} is not a number: FILE[:STRENGTH[:TEXT_STRENGTH]]"),
            None => "give two strengths at most: FILE[:STRENGTH[:TEXT_STRENGTH]]".into(),
        });
    }
    let (strength, text_strength) = match numbers[..] {
        [] => (1.0, None),
        [strength] => (strength, None),
        [text, strength, ..] => (strength, Some(text)),
    };
    let used = LoraUse { name: name_of(file), strength, text_strength };
    Ok(LoraArg { file: file.to_owned(), used })
}

/// A file's name without its ending; of a repository its own name.
fn name_of(file: &str) -> String {
    let path = if FileUrl::is_meant(file) { file.split(['?', '#']).next().unwrap_or(file) } else { file };
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let name = match (is_weights(name), name.rsplit_once('.')) {
        (true, Some((stem, _))) => stem,
        _ => name.split('@').next().unwrap_or(name),
    };
    name.to_owned()
}

/// What a request says of the LoRAs of the command line. Of two files with one name the second gets a number.
pub fn used(args: &[LoraArg]) -> Vec<LoraUse> {
    names(args).into_iter().zip(args).map(|(name, arg)| LoraUse { name, ..arg.used.clone() }).collect()
}

fn names(args: &[LoraArg]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (i, arg) in args.iter().enumerate() {
        let same = args[..i].iter().position(|earlier| earlier.file == arg.file);
        let name = match same {
            Some(earlier) => names[earlier].clone(),
            None => {
                let numbered = (2..).map(|n| format!("{}-{n}", arg.used.name));
                let mut free = [arg.used.name.clone()].into_iter().chain(numbered);
                free.find(|name| !names.contains(name)).unwrap_or_default()
            }
        };
        names.push(name);
    }
    names
}

/// What a file was when it was looked at: another length or time means another file.
pub type Stamp = (u64, Option<SystemTime>);

/// A file of a folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name without the ending; where the folder has several of one name, the path below the folder.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it was.
    pub stamp: Stamp,
    /// The name that its metadata gives, once that was read.
    output_name: Option<Option<String>>,
}

/// A folder of LoRAs, looked through again when somebody asks.
pub struct LoraFolder {
    folder: PathBuf,
    seen: Mutex<(Option<Instant>, Vec<Entry>)>,
}

impl LoraFolder {
    /// A folder that exists.
    ///
    /// # Errors
    /// [`Error::Request`] where it does not.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            let (got, expected) = (folder.display().to_string(), "give a folder that exists".into());
            return Err(Error::Request { field: "lora_dir", got, expected });
        }
        Ok(LoraFolder { folder: folder.to_path_buf(), seen: Mutex::default() })
    }

    /// Calls a function with the folder's files in alphabetical order.
    fn with<T>(&self, work: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0.is_none_or(|at| at.elapsed() >= FRESH) {
            let mut paths = Vec::new();
            collect(&self.folder, 0, &mut Met::default(), &mut paths);
            paths.sort();
            let mut entries: Vec<Entry> = Vec::with_capacity(paths.len());
            let mut n_by_stem: BTreeMap<String, usize> = BTreeMap::new();
            for path in &paths {
                *n_by_stem.entry(stem_of(path)).or_default() += 1;
            }
            for path in paths {
                let Ok(file) = std::fs::metadata(&path) else { continue };
                let stamp = (file.len(), file.modified().ok());
                let stem = stem_of(&path);
                let name = if n_by_stem[&stem] == 1 { stem } else { self.path_below(&path) };
                let known = seen.1.iter().find(|known| known.path == path && known.stamp == stamp);
                let output_name = known.and_then(|known| known.output_name.clone());
                entries.push(Entry { name, path, stamp, output_name });
            }
            *seen = (Some(Instant::now()), entries);
        }
        work(&mut seen.1)
    }

    /// A file's path below the folder, without the ending.
    fn path_below(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.folder).unwrap_or(path).with_extension("");
        below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// Its files.
    pub fn entries(&self) -> Vec<Entry> {
        self.with(|entries| entries.clone())
    }

    /// The file that a name means: the file's own, its path below the folder, or the name that its metadata gives.
    ///
    /// # Errors
    /// [`Error::Request`] with the names that there are, or with the files that the name may mean.
    pub fn find(&self, name: &str) -> Result<Entry> {
        self.with(|entries| {
            if let Some(entry) = entries.iter().find(|entry| entry.name == name || self.path_below(&entry.path) == name)
            {
                return Ok(entry.clone());
            }
            let is_one = |found: &[&Entry]| match found {
                [] => Ok(None),
                [entry] => Ok(Some((*entry).clone())),
                several => {
                    let names: Vec<String> = several.iter().map(|entry| self.path_below(&entry.path)).collect();
                    let expected = format!("several files have that name: write {}", names.join(" or "));
                    Err(Error::Request { field: "lora", got: format!("{name:?}"), expected })
                }
            };
            let of_stem = |is_name: &dyn Fn(&str) -> bool| {
                is_one(&entries.iter().filter(|entry| is_name(&stem_of(&entry.path))).collect::<Vec<_>>())
            };
            if let Some(entry) = of_stem(&|stem| stem == name)? {
                return Ok(entry);
            }
            let any_case = of_stem(&|stem| stem.eq_ignore_ascii_case(name));
            for entry in entries.iter_mut() {
                entry.output_name.get_or_insert_with(|| output_name(&entry.path));
            }
            let of_metadata =
                |entry: &&Entry| entry.output_name.as_ref().is_some_and(|own| own.as_deref() == Some(name));
            if let Some(entry) = is_one(&entries.iter().filter(of_metadata).collect::<Vec<_>>())? {
                return Ok(entry);
            }
            if let Some(entry) = any_case? {
                return Ok(entry);
            }
            let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
            if names.is_empty() {
                let expected = "there is no .safetensors file in the folder of --lora-dir".into();
                return Err(Error::Request { field: "lora", got: format!("{name:?}"), expected });
            }
            let more = format!("{} more", names.len().saturating_sub(MAX_LISTED));
            let listed: Vec<&str> = match names.len() > MAX_LISTED {
                true => names.into_iter().take(MAX_LISTED).chain([more.as_str()]).collect(),
                false => names,
            };
            Err(unknown_lora(name, &listed))
        })
    }
}

fn stem_of(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What was met in a folder so far.
#[derive(Default)]
struct Met {
    n_entries: usize,
    /// Where they really are, so that a link back is not followed.
    folders: BTreeSet<PathBuf>,
}

fn collect(folder: &Path, depth: usize, met: &mut Met, paths: &mut Vec<PathBuf>) {
    if folder.canonicalize().is_ok_and(|folder| !met.folders.insert(folder)) {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        met.n_entries += 1;
        if met.n_entries > MAX_MET {
            return;
        }
        let path = entry.path();
        if path.is_dir() && depth < MAX_DEPTH {
            collect(&path, depth + 1, met, paths);
        } else if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("safetensors")) && paths.len() < MAX_FILES
        {
            paths.push(path);
        }
    }
}

/// The name that a file's metadata gives; of a file that cannot be read there is none.
fn output_name(path: &Path) -> Option<String> {
    let file = block_on(LoraFile::open("", Box::new(DiskSource::open(path).ok()?))).ok()?;
    file.metadata().get(OUTPUT_NAME).cloned()
}

/// The LoRAs of a request, by where they are.
pub struct Wanted(Vec<(String, Place)>);

enum Place {
    /// As `--lora` spells it.
    Named(String),
    /// In the folder.
    File(PathBuf),
}

impl Wanted {
    /// Finds where the LoRAs of a request are: those of `--lora`, and in the folder those of tags.
    ///
    /// # Errors
    /// [`Error::Request`] for a name that is neither.
    pub fn of(args: &[LoraArg], folder: Option<&Path>, request: &Request) -> Result<Self> {
        let folder = folder.map(LoraFolder::open).transpose()?;
        let given: Vec<(String, &LoraArg)> = names(args).into_iter().zip(args).collect();
        let mut wanted: Vec<(String, Place)> = Vec::new();
        let (_, tags) = request.lora_tags()?;
        for LoraUse { name, .. } in request.loras.iter().chain(&tags) {
            if wanted.iter().any(|(known, _)| known == name) {
                continue;
            }
            let place = match (given.iter().find(|(known, _)| known == name), &folder) {
                (Some((_, arg)), _) => Place::Named(arg.file.clone()),
                (None, Some(folder)) => Place::File(folder.find(name)?.path),
                (None, None) => {
                    // A tag may also use the name in the metadata of a file that is given.
                    let named =
                        args.iter().find(|arg| output_name(Path::new(&arg.file)).is_some_and(|own| own == *name));
                    let known: Vec<&str> = given.iter().map(|(known, _)| known.as_str()).collect();
                    match named {
                        Some(arg) => Place::Named(arg.file.clone()),
                        None if known.is_empty() => return Err(unknown_lora(name, &[])),
                        None => {
                            let expected = format!(
                                "there are {} of --lora: pass its folder with --lora-dir FOLDER",
                                known.join(", ")
                            );
                            return Err(Error::Request { field: "lora", got: format!("{name:?}"), expected });
                        }
                    }
                }
            };
            wanted.push((name.clone(), place));
        }
        Ok(Wanted(wanted))
    }

    /// Brings what is not here yet.
    ///
    /// # Errors
    /// What the Hub or a host says; a file that is not there.
    pub fn fetch(self, bar: &Bar) -> Result<Vec<LocalLora>> {
        let local = |(name, place)| {
            let path = match place {
                Place::File(path) => path,
                Place::Named(file) => fetch(&file, bar).map_err(Error::of_model)?,
            };
            Ok(LocalLora { name, path })
        };
        self.0.into_iter().map(local).collect()
    }
}

/// A LoRA on this machine.
#[derive(Clone, Debug)]
pub struct LocalLora {
    /// What requests call it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}

impl LocalLora {
    /// Opens it, and computes its hash where that is not known.
    ///
    /// # Errors
    /// As [`LoraFile::open`].
    pub async fn open(&self, sha256: Option<String>) -> Result<OpenLora> {
        let source = DiskSource::open(&self.path).map_err(Error::of_model)?;
        let file = LoraFile::open(self.name.clone(), Box::new(source)).await.map_err(Error::of_model)?;
        let sha256 = match sha256 {
            Some(known) => known,
            None => hash(&self.path).map_err(|error| Error::of_model(Error::io(&self.path, error)))?,
        };
        Ok(OpenLora { file, sha256 })
    }
}

/// A LoRA that is open.
pub struct OpenLora {
    file: LoraFile,
    sha256: String,
}

impl OpenLora {
    /// The settings of a model of few steps, where it looks like a LoRA of one.
    pub fn preset(&self) -> Option<Preset> {
        let metadata = self.file.metadata().iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Preset::suggest(self.file.name(), metadata)
    }

    /// What requests call it.
    pub fn name(&self) -> &str {
        self.file.name()
    }

    /// The hash of its file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What it does to a model.
    ///
    /// # Errors
    /// As [`LoraFile::fit`].
    pub fn fit(&self, configs: &ModelConfigs) -> Result<Lora> {
        let mut lora = self.file.fit(configs, Some(self.sha256.clone()))?;
        // Words come with a model when it is opened.
        let words = configs.text_encoders.first().map_or(&[][..], |encoder| encoder.tokenizer.words());
        let is_unknown = |word: &&str| words.iter().all(|known| known.name != *word);
        if let Some(first) = self.file.embeddings().map(|(word, ..)| word).find(is_unknown) {
            lora.notes.push(format!("{} has an embedding for {first:?}, which is not used", lora.name));
        }
        Ok(lora)
    }

    /// The embeddings that come along.
    ///
    /// # Errors
    /// As [`embedding::of_lora`].
    pub async fn embeddings(&self) -> Result<Vec<Embedding>> {
        embedding::of_lora(&self.file).await.map_err(Error::of_model)
    }
}

/// Adds embeddings, but for those whose words are there.
pub fn add_embeddings(embeddings: &mut Vec<Embedding>, added: impl IntoIterator<Item = Embedding>) {
    for added in added {
        if embeddings.iter().all(|known| known.name.to_lowercase() != added.name.to_lowercase()) {
            embeddings.push(added);
        }
    }
}

/// The SHA-256 of a file in lower-case hexadecimal.
pub fn hash(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hasher, mut piece) = (File::open(path)?, Sha256::new(), vec![0; HASH_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hasher.update(&piece[..n]),
        }
    }
}

/// A LoRA's file from wherever `--lora` says.
fn fetch(name: &str, bar: &Bar) -> Result<PathBuf> {
    let mut progress = |p: darkroom::hub::cache::Progress<'_>| show_download(bar, &p);
    if FileUrl::is_meant(name) {
        return HubCache::from_env()?.fetch_url(&name.parse()?, &mut progress);
    }
    let path = Path::new(name);
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    if path.is_dir() {
        // Folders in it are not looked into.
        let mut files = Vec::new();
        collect(path, MAX_DEPTH, &mut Met::default(), &mut files);
        let default = files.iter().find(|file| file.file_stem().is_some_and(|stem| stem == "pytorch_lora_weights"));
        let default = default.or_else(|| files.first().filter(|_| files.len() == 1));
        return default.cloned().ok_or_else(|| {
            let what = if files.is_empty() { "without a .safetensors file" } else { "of several files" };
            Error::Request {
                field: "lora",
                got: name.to_owned(),
                expected: format!("it is a folder {what}: give a file, or the folder to --lora-dir"),
            }
        });
    }
    if is_path(name) {
        return Err(missing(name, PLACES));
    }
    if is_weights(name) {
        if name.matches('/').count() < 2 {
            return Err(missing(name, PLACES));
        }
        return HubCache::from_env()?.fetch_file(&name.parse::<RepoFile>()?, &mut progress);
    }
    let repo: RepoId = name.parse().map_err(|_| Error::Request {
        field: "lora",
        got: format!("{name:?}"),
        expected: PLACES.to_owned(),
    })?;
    HubCache::from_env()?.fetch_only_file(&repo, &mut progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_the_end() {
        for (text, file, strength, text_strength) in [
            ("a.safetensors", "a.safetensors", 1.0, None),
            ("a.safetensors:0.5", "a.safetensors", 0.5, None),
            ("dir/a.safetensors:-0.5:1e-1", "dir/a.safetensors", -0.5, Some(0.1)),
            (r"C:\loras\a.safetensors", r"C:\loras\a.safetensors", 1.0, None),
            (r"C:\loras\a.safetensors:0.5", r"C:\loras\a.safetensors", 0.5, None),
            ("https://host:8080/a.safetensors", "https://host:8080/a.safetensors", 1.0, None),
            ("https://host:8080/a.safetensors:2:0", "https://host:8080/a.safetensors", 2.0, Some(0.0)),
            ("owner/repo", "owner/repo", 1.0, None),
            ("owner/repo@main/x/a.safetensors:0.8", "owner/repo@main/x/a.safetensors", 0.8, None),
        ] {
            let got = lora(text).unwrap();
            assert_eq!((got.file.as_str(), got.used.strength, got.used.text_strength), (file, strength, text_strength));
        }
        let two = "give two strengths at most";
        for (text, said) in [
            ("a.safetensors:strong", "the strength \"strong\" is not a number"),
            ("dir/a.safetensors:1:abc", "the strength \"abc\" is not a number"),
            ("dir/a.safetensors:abc:1", "the strength \"abc\" is not a number"),
            ("/dir/a.safetensors::", "the strength \"\" is not a number"),
            ("./a.safetensors:1:", "the strength \"\" is not a number"),
            ("https://host:8080/a.safetensors:1:abc", "the strength \"abc\" is not a number"),
            ("owner/repo@main:1:abc", "the strength \"abc\" is not a number"),
            ("", "give a file"),
            (":1", "give a file"),
            ("a.safetensors:1:1:1", two),
            ("owner/repo:1:1:1", two),
        ] {
            let error = lora(text).unwrap_err();
            assert!(error.starts_with(said), "{text}: {error}");
        }
        let names = [
            "x/a.safetensors",
            "owner/repo:2",
            "y/a.safetensors",
            "x/a.safetensors:0.5",
            "https://h/b.safetensors?x=1",
        ];
        let args: Vec<LoraArg> = names.iter().map(|text| lora(text).unwrap()).collect();
        let names: Vec<String> = used(&args).into_iter().map(|used| used.name).collect();
        assert_eq!(names, ["a", "repo", "a-2", "a", "b"]);
    }
}
