//! A model whose files are in memory: picked in a page, or built into a program.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{IndexTexts, ListedFile, ModelFile, Needs, Source, Variant, choose_files, index_files};
use crate::error::{Error, Result};
use crate::weights::{ByteSource, LocalFuture, MemorySource};

/// Files by their path in the repository.
#[derive(Clone, Debug)]
pub struct MemoryFiles {
    label: String,
    files: BTreeMap<String, Cow<'static, [u8]>>,
}

impl MemoryFiles {
    /// No files yet, under a name for messages and metadata.
    #[must_use]
    pub fn new(label: impl Into<String>) -> Self {
        MemoryFiles { label: label.into(), files: BTreeMap::new() }
    }

    /// Adds a file; one of the same path is replaced.
    #[must_use]
    pub fn with(mut self, path: impl Into<String>, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        self.files.insert(path.into(), bytes.into());
        self
    }

    fn bytes(&self, path: &str) -> Result<&Cow<'static, [u8]>> {
        self.files
            .get(path)
            .ok_or_else(|| Error::Hub { repo: self.label.clone(), reason: format!("has no file {path}") })
    }

    fn text(&self, path: &str) -> Result<String> {
        let bytes = self.bytes(path)?.to_vec();
        String::from_utf8(bytes).map_err(|_| Error::Config { file: path.into(), reason: "is not UTF-8".into() })
    }
}

impl Source for MemoryFiles {
    fn list<'a>(&'a self) -> LocalFuture<'a, Result<Vec<ModelFile>>> {
        Box::pin(async move {
            let index = "model_index.json";
            let needs = Needs::from_model_index(index, &self.text(index)?)?;
            let listed =
                |(path, bytes): (&String, &Cow<'static, [u8]>)| ListedFile::new(path.clone(), Some(bytes.len() as u64));
            let all: Vec<ListedFile> = self.files.iter().map(listed).collect();
            let variant = Variant::default();
            let mut indexes = IndexTexts::new();
            for path in index_files(&all, needs, &variant) {
                let text = self.text(&path)?;
                indexes.insert(path, text);
            }
            choose_files(&self.label, &all, needs, &variant, &indexes)
        })
    }

    fn read_text<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<String>> {
        Box::pin(async move { self.text(path) })
    }

    fn open<'a>(&'a self, path: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move {
            let source: Box<dyn ByteSource> = Box::new(MemorySource::new(path, self.bytes(path)?.clone()));
            Ok(source)
        })
    }

    fn describe(&self) -> String {
        self.label.clone()
    }
}
