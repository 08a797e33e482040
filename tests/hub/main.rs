//! Which files a model needs, and where they come from: folders, the Hugging Face cache, and a Hub that is a thread of
//! this test, since the real one is not asked.
#![cfg(not(target_arch = "wasm32"))]

#[cfg(feature = "cli")]
mod cache;
mod choice;
#[cfg(feature = "cli")]
mod files;
#[cfg(feature = "cli")]
#[allow(dead_code, reason = "the other tests that download use the rest of it")]
#[path = "../hub_server/mod.rs"]
mod hub_server;

use std::path::{Path, PathBuf};

use darkroom::hub::folder::Folder;
use darkroom::hub::listing::parse_tree;
use darkroom::hub::{Component, ListedFile, ModelFile, Needs, RepoId, Source, choose_files};
use darkroom::weights::Weights;
use darkroom::{Error, Result};
use pollster::block_on;

/// The model that the project embeds, a complete diffusers folder.
fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/hub/darkroom/tiny-emoji/resolve/main")
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this should be refused"),
        Err(error) => error.to_string(),
    }
}

fn paths(files: &[ModelFile]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

/// The text files of a model, then `weights`.
fn listing(second_encoder: bool, weights: &[&str]) -> Vec<ListedFile> {
    let mut paths = vec![
        "README.md",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "v1-5-pruned.safetensors",
        "vae/config.json",
    ];
    if second_encoder {
        paths.extend(["text_encoder_2/config.json", "tokenizer_2/merges.txt", "tokenizer_2/vocab.json"]);
    }
    paths.extend(weights);
    paths.into_iter().map(|path| ListedFile::new(path, Some(1))).collect()
}

const ONE: Needs = Needs { second_encoder: false };
const TWO: Needs = Needs { second_encoder: true };

#[test]
fn names_of_repositories() {
    for (text, path, revision) in [
        ("owner/repo", "owner/repo", "main"),
        ("owner/repo@fp16", "owner/repo", "fp16"),
        ("o.w-n_er/re.po-1.0@refs/pr/7", "o.w-n_er/re.po-1.0", "refs/pr/7"),
    ] {
        let repo: RepoId = text.parse().unwrap();
        assert_eq!((repo.path(), repo.revision(), repo.to_string().as_str()), (path, revision, text));
    }
    for text in [
        "",
        "repo",
        "owner/",
        "/repo",
        "a/b/c",
        "owner/repo@",
        "owner/..",
        "../repo",
        "owner/re po",
        "owner/repo@../x",
        "owner/repo@a//b",
        "owner/repo@a?b",
        "https://huggingface.co/owner/repo",
        "owner\\repo",
        "owner/repo@a@b",
    ] {
        let said = message(text.parse::<RepoId>());
        assert!(said.contains("owner/name@revision"), "{text:?}: {said}");
    }
}

#[test]
fn listings_of_the_hub() {
    let (digest, oid) = ("AB".repeat(32), "CD".repeat(20));
    let expected = [
        ListedFile { git_oid: Some(oid.to_lowercase()), ..ListedFile::new("a.json", Some(3)) },
        ListedFile { sha256: Some(digest.to_lowercase()), ..ListedFile::new("b.safetensors", Some(9)) },
        ListedFile::new("c", None),
    ];
    let tree = format!(
        r#"[{{"type":"directory","oid":"1","size":0,"path":"unet"}},{{"type":"file","oid":"{oid}","size":3,"path":"a.json"}},
        {{"type":"file","oid":"{oid}","size":9,"path":"b.safetensors","lfs":{{"oid":"{digest}","size":9}}}},
        {{"type":"file","oid":"../x","path":"c"}}]"#
    );
    assert_eq!(parse_tree(&tree).unwrap(), expected);
    for junk in ["", "{}", "<html>"] {
        assert!(parse_tree(junk).is_err());
    }
}

mod folders {
    use super::*;

    #[test]
    fn the_demo_model_is_complete_and_readable() {
        let folder = Folder::open(demo_model()).unwrap();
        let files = block_on(folder.list()).unwrap();
        assert_eq!(
            paths(&files),
            [
                "model_index.json",
                "scheduler/scheduler_config.json",
                "tokenizer/vocab.json",
                "tokenizer/merges.txt",
                "tokenizer/special_tokens_map.json",
                "tokenizer/tokenizer_config.json",
                "text_encoder/config.json",
                "text_encoder/model.fp16.safetensors",
                "unet/config.json",
                "unet/diffusion_pytorch_model.fp16.safetensors",
                "vae/config.json",
                "vae/diffusion_pytorch_model.fp16.safetensors",
            ]
        );
        // The only weights are fp16, so nobody who asks for the plain ones gets them.
        assert_eq!(folder.clone().with_variant("fp16".parse().unwrap()).files().unwrap(), files);
        let plain = folder.clone().with_variant("none".parse().unwrap()).files();
        assert!(message(plain).contains("--variant fp16"));
        assert!(block_on(folder.read_text("unet/config.json")).unwrap().contains("UNet2DConditionModel"));
        for file in files.iter().filter(|file| file.is_weights()) {
            assert!(file.f16);
            let source = block_on(folder.open(&file.path)).unwrap();
            assert_eq!(Some(source.len()), file.bytes);
            let weights = block_on(Weights::open(vec![source])).unwrap();
            for name in weights.names() {
                let values = block_on(weights.read_f32(name)).unwrap();
                assert_eq!(values.len(), weights.get(name).unwrap().shape.iter().product::<usize>());
                assert!(values.iter().all(|value| value.is_finite()), "{name}");
            }
        }
    }

    #[test]
    fn no_path_leads_out() {
        let folder = Folder::open(demo_model()).unwrap();
        for path in ["", "..", "../main/model_index.json", "unet/../../x", "/etc/hostname", "./model_index.json/.."] {
            assert!(matches!(block_on(folder.read_text(path)), Err(Error::Hub { .. })), "{path:?}");
            assert!(block_on(folder.open(path)).is_err(), "{path:?}");
        }
        assert!(matches!(block_on(folder.read_text("unet/absent.json")), Err(Error::Io { .. })));
    }

    #[test]
    fn what_is_no_model_says_so() {
        let temporary = tempfile::tempdir().unwrap();
        assert!(message(Folder::open(temporary.path())).contains("no model_index.json"));
        assert!(message(Folder::open(temporary.path().join("absent"))).contains("no such folder"));
        let file = temporary.path().join("model.safetensors");
        std::fs::write(&file, b"x").unwrap();
        assert!(message(Folder::open(&file)).contains("diffusers' layout"));
        std::fs::write(temporary.path().join("model_index.json"), b"{}").unwrap();
        assert!(message(Folder::open(temporary.path()).unwrap().files()).contains("no unet"));
    }
}
