//! Which files of a repository are a model.

use darkroom::hub::{IndexTexts, Variant, index_files};

use super::*;

const F16: Variant = Variant::Fp16First;

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

/// The choice where no file is an index.
fn choose(all: &[ListedFile], needs: Needs, variant: &Variant) -> Result<Vec<ModelFile>, Error> {
    choose_files("owner/repo", all, needs, variant, &IndexTexts::new())
}

fn weights(all: &[ListedFile], needs: Needs, variant: &Variant) -> Vec<String> {
    let files = choose(all, needs, variant).unwrap();
    for file in &files {
        assert!(file.path.starts_with(file.component.folder()));
        assert_eq!(file.f16, file.path.contains("fp16"), "{}", file.path);
    }
    files.into_iter().filter(ModelFile::is_weights).map(|file| file.path).collect()
}

#[test]
fn fp16_is_taken_where_there_is_any() {
    let all = listing(false, &BOTH);
    let files = choose(&all, ONE, &F16).unwrap();
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
        weights(&all, ONE, &Variant::PlainFirst),
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
    for variant in [F16, Variant::PlainFirst, Variant::Named("fp16".to_owned())] {
        assert_eq!(weights(&listing(false, &mixed), ONE, &variant), mixed);
    }
    // So does who asks for plain files, if there are any.
    assert_eq!(weights(&listing(false, &mixed), ONE, &Variant::Plain), mixed);
    let f16: Vec<String> = mixed.iter().map(|path| path.replace("l.safe", "l.fp16.safe")).collect();
    let f16: Vec<&str> = f16.iter().map(String::as_str).collect();
    assert_eq!(weights(&listing(false, &f16), ONE, &Variant::PlainFirst), f16);
    let said = message(choose(&listing(false, &f16), ONE, &Variant::Plain));
    assert!(said.contains("no component has plain files") && said.contains("--variant fp16"), "{said}");
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
        assert_eq!(weights(&all(&[parts[1], parts[0]]), ONE, &F16)[1..3], parts);
        let said = message(choose(&all(&parts[..1]), ONE, &F16));
        assert!(said.starts_with(&format!("owner/repo: {} is missing; unet has config.json, ", parts[1])), "{said}");
    }
    let everything = spellings.concat();
    assert_eq!(weights(&all(&everything), ONE, &F16)[1..3], spellings[1]);
    assert_eq!(weights(&all(&everything), ONE, &Variant::PlainFirst)[1..3], spellings[0]);
    // A set without its last part is passed over for one that is complete.
    let broken = [&spellings[1][..1], &spellings[0][..]].concat();
    assert_eq!(weights(&all(&broken), ONE, &F16)[1..3], spellings[0]);
    // Nothing that merely looks like a part counts.
    for odd in
        ["-00000-of-00002", "-00003-of-00002", "-1-of-2", "-00001-of-99999", ".fp16.fp16", ".bf16", "-00001-of-00000"]
    {
        let odd = format!("unet/diffusion_pytorch_model{odd}.safetensors");
        let said = message(choose(&all(&[&odd]), ONE, &F16));
        assert!(said.contains("is missing"), "{odd}: {said}");
    }
}

#[test]
fn a_second_encoder_is_needed_where_the_index_says_so() {
    let all = listing(true, &[&BOTH[..], &["text_encoder_2/model.fp16.safetensors"]].concat());
    let files = choose(&all, TWO, &F16).unwrap();
    assert!(files.iter().any(|file| file.path == "text_encoder_2/model.fp16.safetensors"));
    assert!(files.iter().any(|file| file.component == Component::Tokenizer2));
    assert!(!paths(&choose(&all, ONE, &F16).unwrap()).iter().any(|path| path.contains("_2/")));
    assert_eq!(
        message(choose(&listing(false, &BOTH), TWO, &F16)),
        "owner/repo: tokenizer_2/vocab.json is missing; tokenizer_2 has nothing"
    );
}

#[test]
fn what_is_missing_is_named_with_what_is_there() {
    let without = |gone: &str| {
        let mut all = listing(false, &BOTH);
        all.retain(|file| !file.path.starts_with(gone));
        message(choose(&all, ONE, &F16))
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
    let files = choose(&all, ONE, &F16).unwrap();
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

#[test]
fn a_whole_tokenizer_comes_before_its_two_files() {
    let mut all = listing(false, &BOTH);
    all.push(ListedFile::new("tokenizer/tokenizer.json", None));
    all.push(ListedFile::new("tokenizer/added_tokens.json", None));
    let files = choose(&all, ONE, &F16).unwrap();
    assert!(
        paths(&files).contains(&"tokenizer/tokenizer.json") && paths(&files).contains(&"tokenizer/added_tokens.json")
    );
    assert!(!paths(&files).contains(&"tokenizer/vocab.json"));
}

#[test]
fn a_variant_is_asked_for_by_name() {
    let all = listing(false, &BOTH);
    let named = |name: &str| name.parse::<Variant>().unwrap();
    assert_eq!(weights(&all, ONE, &named("fp16")), weights(&all, ONE, &F16));
    assert_eq!(weights(&all, ONE, &named("none")), weights(&all, ONE, &Variant::PlainFirst));
    let non_ema = weights(&all, ONE, &named("non_ema"));
    assert_eq!(
        non_ema,
        [
            "text_encoder/model.safetensors",
            "unet/diffusion_pytorch_model.non_ema.safetensors",
            "vae/diffusion_pytorch_model.safetensors"
        ]
    );
    let said = message(choose(&all, ONE, &named("bf16")));
    assert!(said.starts_with("owner/repo: no component has files of the variant bf16"), "{said}");
    for odd in ["", "f p", "../x", "a.b"] {
        assert!(odd.parse::<Variant>().is_err(), "{odd:?}");
    }
}

/// An index that names these files, one tensor each.
fn index_of(files: &[&str]) -> String {
    let map: Vec<String> = files.iter().enumerate().map(|(i, file)| format!(r#""t{i}":"{file}""#)).collect();
    format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{{{}}}}}"#, map.join(","))
}

#[test]
fn an_index_is_followed_as_diffusers_does() {
    let small = ["text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"];
    // An index, the variant it is of, and how the files that it names may be called.
    let parts = ["unet/part-a.safetensors", "unet/part-b.safetensors"];
    for (index, variant) in [
        ("unet/diffusion_pytorch_model.safetensors.index.json", Variant::PlainFirst),
        ("unet/diffusion_pytorch_model.safetensors.index.json", Variant::Plain),
        ("unet/diffusion_pytorch_model.safetensors.index.fp16.json", F16),
        ("unet/diffusion_pytorch_model.safetensors.fp16.index.json", Variant::Named("fp16".to_owned())),
    ] {
        // The whole file beside it is older: diffusers looks for the index first.
        let whole = match variant {
            Variant::PlainFirst | Variant::Plain => "unet/diffusion_pytorch_model.safetensors",
            _ => "unet/diffusion_pytorch_model.fp16.safetensors",
        };
        let unused = "unet/part-c.safetensors";
        let all = listing(false, &[small[0], index, parts[0], parts[1], unused, whole, small[1]]);
        assert_eq!(index_files(&all, ONE, &variant), [index]);
        let with = |text: String| {
            choose_files("owner/repo", &all, ONE, &variant, &IndexTexts::from([(index.to_owned(), text)]))
        };
        let files = with(index_of(&["part-b.safetensors", "part-a.safetensors", "part-a.safetensors"])).unwrap();
        let unet: Vec<&str> = paths(&files).into_iter().filter(|path| path.starts_with("unet/")).collect();
        assert_eq!(unet, ["unet/config.json", index, parts[0], parts[1]]);
        for (names, words) in [
            (&["part-a.safetensors", "part-z.safetensors"][..], "unet/part-z.safetensors is missing"),
            (&["../vae/diffusion_pytorch_model.safetensors"][..], "the name of a safetensors file"),
            (&["part-a.bin"][..], "the name of a safetensors file"),
            (&[][..], "names 0 files"),
        ] {
            let said = message(with(index_of(names)));
            assert!(said.contains(words), "{said}");
        }
        for text in ["", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {"a": 1}}"#] {
            let said = message(with(text.to_owned()));
            assert!(said.starts_with(index), "{said}");
        }
    }
}

#[test]
fn a_text_encoder_is_its_whole_file_before_its_index() {
    let all = |text_encoder: &[&str]| {
        let rest = ["unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"];
        listing(false, &[text_encoder, &rest].concat())
    };
    let (index, whole) = ("text_encoder/model.safetensors.index.json", "text_encoder/model.safetensors");
    let part = "text_encoder/model-00001-of-00001.safetensors";
    let texts = IndexTexts::from([(index.to_owned(), index_of(&["model-00001-of-00001.safetensors"]))]);
    let chosen = |all: &[ListedFile]| {
        let files = choose_files("owner/repo", all, ONE, &Variant::PlainFirst, &texts).unwrap();
        files.into_iter().find(|file| file.component == Component::TextEncoder && file.is_weights()).unwrap().path
    };
    assert_eq!(chosen(&all(&[index, part, whole])), whole);
    assert_eq!(chosen(&all(&[index, part])), part);
}

#[test]
fn an_index_without_any_of_its_parts_was_not_downloaded() {
    let index = "unet/diffusion_pytorch_model.safetensors.index.json";
    let f16 = "unet/diffusion_pytorch_model.fp16.safetensors";
    let all =
        listing(false, &["text_encoder/model.safetensors", index, f16, "vae/diffusion_pytorch_model.safetensors"]);
    let texts = IndexTexts::from([(index.to_owned(), index_of(&["part-a.safetensors"]))]);
    let files = choose_files("owner/repo", &all, ONE, &Variant::PlainFirst, &texts).unwrap();
    assert!(paths(&files).contains(&f16));
    let all: Vec<ListedFile> = all.into_iter().filter(|file| file.path != f16).collect();
    let said = message(choose_files("owner/repo", &all, ONE, &Variant::PlainFirst, &texts));
    assert!(said.contains("unet/part-a.safetensors is missing") && said.contains(index), "{said}");
}
