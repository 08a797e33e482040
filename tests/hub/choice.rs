//! Which files of a repository are a model.

use super::*;

const BOTH: [&str; 8] = [
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
];

fn weights(all: &[ListedFile], needs: Needs, prefer_f16: bool) -> Vec<String> {
    let files = choose_files("owner/repo", all, needs, prefer_f16).unwrap();
    for file in &files {
        assert!(file.path.starts_with(file.component.folder()));
        assert_eq!(file.f16, file.path.contains("fp16"), "{}", file.path);
    }
    files.into_iter().filter(ModelFile::is_weights).map(|file| file.path).collect()
}

#[test]
fn fp16_is_taken_where_there_is_any() {
    let all = listing(false, &BOTH);
    let files = choose_files("owner/repo", &all, ONE, true).unwrap();
    assert_eq!(
        paths(&files),
        [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "tokenizer/vocab.json",
            "tokenizer/merges.txt",
            "tokenizer/special_tokens_map.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "unet/config.json",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ]
    );
    assert_eq!(
        weights(&all, ONE, false),
        [
            "text_encoder/model.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors"
        ]
    );
}

#[test]
fn each_component_falls_back_by_itself() {
    let mixed = [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ];
    for prefer_f16 in [true, false] {
        assert_eq!(weights(&listing(false, &mixed), ONE, prefer_f16), mixed);
    }
}

#[test]
fn parts_are_taken_together() {
    let small = ["text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"];
    let spellings: [[&str; 2]; 3] = [
        [
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
            "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        ],
        [
            "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
            "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
        ],
        [
            "unet/diffusion_pytorch_model-00001-of-00002.fp16.safetensors",
            "unet/diffusion_pytorch_model-00002-of-00002.fp16.safetensors",
        ],
    ];
    let all = |unet: &[&str]| listing(false, &[&small[..1], unet, &small[1..]].concat());
    for parts in spellings {
        // The parts come in order, however the listing has them.
        assert_eq!(weights(&all(&[parts[1], parts[0]]), ONE, true)[1..3], parts);
        let said = message(choose_files("owner/repo", &all(&parts[..1]), ONE, true));
        assert!(said.starts_with(&format!("owner/repo: {} is missing; unet has config.json, ", parts[1])), "{said}");
    }
    let everything = spellings.concat();
    assert_eq!(weights(&all(&everything), ONE, true)[1..3], spellings[1]);
    assert_eq!(weights(&all(&everything), ONE, false)[1..3], spellings[0]);
    // A set without its last part is passed over for one that is complete.
    let broken = [&spellings[1][..1], &spellings[0][..]].concat();
    assert_eq!(weights(&all(&broken), ONE, true)[1..3], spellings[0]);
    // Nothing that merely looks like a part counts.
    for odd in
        ["-00000-of-00002", "-00003-of-00002", "-1-of-2", "-00001-of-99999", ".fp16.fp16", ".bf16", "-00001-of-00000"]
    {
        let odd = format!("unet/diffusion_pytorch_model{odd}.safetensors");
        let said = message(choose_files("owner/repo", &all(&[&odd]), ONE, true));
        assert!(said.contains("is missing"), "{odd}: {said}");
    }
}

#[test]
fn a_second_encoder_is_needed_where_the_index_says_so() {
    let all = listing(true, &[&BOTH[..], &["text_encoder_2/model.fp16.safetensors"]].concat());
    let files = choose_files("owner/repo", &all, TWO, true).unwrap();
    assert!(files.iter().any(|file| file.path == "text_encoder_2/model.fp16.safetensors"));
    assert!(files.iter().any(|file| file.component == Component::Tokenizer2));
    assert!(!paths(&choose_files("owner/repo", &all, ONE, true).unwrap()).iter().any(|path| path.contains("_2/")));
    assert_eq!(
        message(choose_files("owner/repo", &listing(false, &BOTH), TWO, true)),
        "owner/repo: tokenizer_2/vocab.json is missing; tokenizer_2 has nothing"
    );
}

#[test]
fn what_is_missing_is_named_with_what_is_there() {
    let without = |gone: &str| {
        let mut all = listing(false, &BOTH);
        all.retain(|file| !file.path.starts_with(gone));
        message(choose_files("owner/repo", &all, ONE, true))
    };
    assert_eq!(
        without("model_index.json"),
        "owner/repo: model_index.json is missing; at the top has README.md, v1-5-pruned.safetensors"
    );
    assert_eq!(without("scheduler/"), "owner/repo: scheduler/scheduler_config.json is missing; scheduler has nothing");
    assert_eq!(
        without("tokenizer/merges.txt"),
        "owner/repo: tokenizer/merges.txt is missing; tokenizer has special_tokens_map.json, vocab.json"
    );
    assert_eq!(
        without("text_encoder/model"),
        "owner/repo: text_encoder/model.fp16.safetensors is missing; text_encoder has config.json, \
         pytorch_model.bin; its weights are pickles, which can run code and are not read"
    );
}

#[test]
fn a_tokenizer_may_be_one_file() {
    let mut all = listing(false, &BOTH);
    all.retain(|file| !file.path.starts_with("tokenizer/"));
    all.push(ListedFile::new("tokenizer/tokenizer.json", None));
    let files = choose_files("owner/repo", &all, ONE, true).unwrap();
    assert!(paths(&files).contains(&"tokenizer/tokenizer.json"));
}

#[test]
fn the_index_tells_what_is_needed() {
    let index = |more: &str| {
        format!(
            r#"{{"_class_name":"StableDiffusionPipeline","unet":["diffusers","UNet2DConditionModel"],
            "vae":["diffusers","AutoencoderKL"],
            "text_encoder":["transformers","T"],"tokenizer":["transformers","K"],"scheduler":["diffusers","S"]{more}}}"#
        )
    };
    let needs = |json: &str| Needs::from_model_index("model_index.json", json);
    assert_eq!(needs(&index("")).unwrap(), ONE);
    let second = r#","text_encoder_2":["transformers","T"],"tokenizer_2":["transformers","K"]"#;
    assert_eq!(needs(&index(second)).unwrap(), TWO);
    let nulls = r#","text_encoder_2":[null,null],"tokenizer_2":[null,null]"#;
    assert_eq!(needs(&index(nulls)).unwrap(), ONE);
    assert!(needs(&index(r#","tokenizer_2":["transformers","K"]"#)).is_err());
    assert_eq!(
        message(needs(r#"{"_class_name":"FluxPipeline","transformer":["diffusers","F"]}"#)),
        "model_index.json: FluxPipeline is FLUX: only Stable Diffusion 1, 2 and XL, which draw from a prompt, can be used here"
    );
    for junk in ["", "[]", "null", "{", "7"] {
        assert!(matches!(needs(junk), Err(Error::Config { .. })), "{junk:?}");
    }
}
