//! Opens a LoRA's file and fits it to a model.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::layers::{EMBEDDINGS, Layer, Role, layers};
use super::scale::AdapterConfig;
use super::table::{Found, Table};
use crate::checkpoint::foreign;
use crate::checkpoint::identity::{Family, Identity, Kind};
use crate::error::{Error, Result};
use crate::hub::Component;
use crate::model::SDVersion;
use crate::pipeline::{Lora, ModelConfigs};
use crate::weights::merged::{Change, Factors, Form, Half, Magnitudes};
use crate::weights::{ByteSource, Dtype, Files, TensorSource, Weights};

/// How many layers a message names.
const MAX_NAMED: usize = 3;

/// The most bytes of a number that stands alone.
const MAX_NUMBER: u64 = 8;

/// A LoRA or one of its kin, opened: its layers, of which no large tensor is read.
pub struct LoraFile {
    name: String,
    /// What messages call it.
    file: String,
    tensors: Weights,
    metadata: BTreeMap<String, String>,
    identity: Identity,
    layers: BTreeMap<String, Layer>,
    /// Numbers that stand alone, by the names of their tensors: alphas, and whether IA3's factors are for inputs.
    numbers: BTreeMap<String, f64>,
    embeddings: Vec<String>,
}

impl LoraFile {
    /// Reads the header and the numbers that stand alone. `name` is what requests call it.
    ///
    /// # Errors
    /// [`Error::Safetensors`] for a broken file; [`Error::Hub`] for one that is no LoRA, or of a form that is not read.
    pub async fn open(name: impl Into<String>, source: Box<dyn ByteSource>) -> Result<Self> {
        let (name, file) = (name.into(), source.name().to_owned());
        foreign::refuse(&*source).await?;
        let files = Rc::new(Files::open(vec![source]).await?);
        let identity = Identity::of(&*files, files.metadata());
        let refuse = |reason: String| Err(Error::Hub { repo: file.clone(), reason });
        if identity.kind != Kind::Lora {
            return refuse(format!("this is a {}, not a LoRA", identity.kind.name()));
        }
        let (layers, others) = layers(files.names().into_iter());
        for (path, layer) in &layers {
            if let Some(form) =
                layer.keys().find_map(|role| if let Role::Refused(form) = role { Some(form) } else { None })
            {
                return refuse(format!(
                    "{path} is in the form {form}, which is not read: LoRA, LoCon, LoHa, LoKr, IA3, DoRA and whole \
                     differences are"
                ));
            }
        }
        if let (true, Some(obstacle)) = (identity.is_refused, &identity.obstacle) {
            return refuse(obstacle.clone());
        }
        if let Some(other) = others.first() {
            return refuse(format!("{} of its tensors have names of no known form: {other}", others.len()));
        }
        let mut numbers = BTreeMap::new();
        for (role, tensor) in layers.values().flatten() {
            if matches!(role, Role::Alpha | Role::OnInput) {
                match number(&files, tensor).await? {
                    Some(value) if value.is_finite() => numbers.insert(tensor.clone(), value),
                    _ => return refuse(format!("{tensor} is not one number")),
                };
            }
        }
        let embeddings =
            files.names().into_iter().filter(|name| name.starts_with(EMBEDDINGS)).map(str::to_owned).collect();
        let metadata = files.metadata().clone();
        let tensors = Weights::of(files);
        Ok(LoraFile { name, file, tensors, metadata, identity, layers, numbers, embeddings })
    }

    /// What requests call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the file says about itself.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What the file is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What messages call its file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its tensors.
    #[must_use]
    pub fn tensors(&self) -> &Weights {
        &self.tensors
    }

    /// The vectors for words of the prompt that come along (`bundle_emb`): the word, what its vectors are called in a file
    /// of their own (`emb_params`, `clip_l`, `clip_g`), and the tensor's name here.
    pub fn embeddings(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.embeddings.iter().filter_map(|tensor| {
            let (word, vectors) = tensor.strip_prefix(EMBEDDINGS)?.rsplit_once('.')?;
            Some((word.trim_end_matches(".string_to_param"), vectors, tensor.as_str()))
        })
    }

    /// What it does to a model. `sha256` is that of the file, where it was computed.
    ///
    /// # Errors
    /// [`Error::Hub`] where layers of it have no place in the model or another shape, with what it is for.
    pub fn fit(&self, configs: &ModelConfigs, sha256: Option<String>) -> Result<Lora> {
        let table = Table::new(configs)?;
        let adapter = AdapterConfig::of(&self.metadata);
        let (mut changes, mut unmatched, mut n_unused) = (Vec::new(), Vec::new(), 0);
        let refuse = |reason: String| Err(Error::Hub { repo: self.file.clone(), reason });
        for (path, tensors) in &self.layers {
            let (component, layer) = match table.find(path) {
                Some(Found::Layer(component, layer)) => (component, layer),
                Some(Found::Unused) => {
                    n_unused += 1;
                    continue;
                }
                None => {
                    unmatched.push(path.as_str());
                    continue;
                }
            };
            let scale = Scale { numbers: &self.numbers, adapter: adapter.as_ref(), component, layer };
            match self.changes_of(tensors, &table, &scale) {
                Ok(found) => {
                    changes.extend(found.into_iter().map(|(tensor, change)| (component, tensor, Rc::new(change))));
                }
                Err(reason) => {
                    return refuse(format!("{} does not fit this {}: {reason}", self.is_for(), kind_of(configs)));
                }
            }
        }
        if !unmatched.is_empty() {
            let named = unmatched.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
            let more = if unmatched.len() > MAX_NAMED { ", …" } else { "" };
            return refuse(format!(
                "{} does not fit this {}: {} of its {} layers are not in the model ({named}{more})",
                self.is_for(),
                kind_of(configs),
                unmatched.len(),
                self.layers.len()
            ));
        }
        let mut notes = Vec::new();
        if n_unused > 0 {
            let s = if n_unused == 1 { "" } else { "s" };
            notes.push(format!("{}: {n_unused} layer{s} of text encoders that this model does not run", self.name));
        }
        Ok(Lora { name: self.name.clone(), sha256, changes, notes })
    }

    /// What it is for, as the beginning of a sentence.
    fn is_for(&self) -> String {
        let base = ["ss_base_model_version", "ss_sd_model_name", "modelspec.architecture"];
        let base = base.iter().find_map(|key| self.metadata.get(*key)).filter(|base| !base.trim().is_empty());
        match (self.identity.family, base) {
            (Some(family), _) => format!("a LoRA for {}", family.name()),
            (None, Some(base)) => format!("a LoRA for {}", base.chars().take(60).collect::<String>()),
            (None, None) => "a LoRA that does not say what it is for".to_owned(),
        }
    }

    /// What the tensors of one layer do to its weight and bias, by the names of these.
    fn changes_of(&self, tensors: &Layer, table: &Table, scale: &Scale<'_>) -> Result<Vec<(String, Change)>, String> {
        let (component, layer) = (scale.component, scale.layer);
        let mut left: Layer = tensors.clone();
        let mut take = |role: Role| left.remove(&role);
        let alpha = take(Role::Alpha);
        let of_rank = |rank: usize| scale.of_rank(alpha.as_deref(), rank);
        let first_side =
            |name: &str| self.tensors.get(name).and_then(|tensor| tensor.shape.first().copied()).unwrap_or(0);
        let shape_of = |end: &str| table.shape(component, &format!("{layer}.{end}"));
        let shape = shape_of("weight").ok_or_else(|| format!("{layer} has no weight"))?;
        let missing = |what: &str| format!("{layer} lacks {what}");

        let mut form = None;
        let (down, up) = (take(Role::Down), take(Role::Up));
        let up_bias = take(Role::UpBias);
        let mut product_scale = 1.0;
        if down.is_some() || up.is_some() {
            let right = down.ok_or_else(|| missing("lora_down"))?;
            let up = up.ok_or_else(|| missing("lora_up"))?;
            product_scale = of_rank(first_side(&right))?;
            let factors = Factors { left: up, left_transposed: false, right, core: take(Role::Mid) };
            form = Some((Form::Product(factors), product_scale));
        }
        let mut hada = |a: Role, b: Role, core: Role, half: &str| -> Result<Option<Factors>, String> {
            match (take(a), take(b), take(core)) {
                (Some(left), Some(right), core) => {
                    Ok(Some(Factors { left, left_transposed: core.is_some(), right, core }))
                }
                (None, None, None) => Ok(None),
                _ => Err(missing(half)),
            }
        };
        let first = hada(Role::HadaW1A, Role::HadaW1B, Role::HadaT1, "a factor of hada_w1")?;
        let second = hada(Role::HadaW2A, Role::HadaW2B, Role::HadaT2, "a factor of hada_w2")?;
        match (first, second) {
            (Some(first), Some(second)) => {
                let s = of_rank(first_side(&first.right))?;
                form = only(form, (Form::Hadamard(first, second), s), layer)?;
            }
            (None, None) => {}
            _ => return Err(missing("a half of LoHa")),
        }
        let mut rank = None;
        let mut half =
            |whole: Role, a: Role, b: Role, core: Option<Role>, what: &str| -> Result<Option<Half>, String> {
                match (take(whole), take(a), take(b), core.and_then(&mut take)) {
                    (Some(whole), None, None, None) => Ok(Some(Half::Whole(whole))),
                    (None, Some(left), Some(right), core) => {
                        rank = Some(first_side(&right));
                        Ok(Some(Half::Product(Factors { left, left_transposed: core.is_some(), right, core })))
                    }
                    (None, None, None, None) => Ok(None),
                    _ => Err(missing(what)),
                }
            };
        let first = half(Role::LokrW1, Role::LokrW1A, Role::LokrW1B, None, "a factor of lokr_w1")?;
        let second = half(Role::LokrW2, Role::LokrW2A, Role::LokrW2B, Some(Role::LokrT2), "a factor of lokr_w2")?;
        match (first, second) {
            (Some(first), Some(second)) => {
                // Both whole: nothing was scaled when it was trained.
                let s = rank.map_or(Ok(1.0), of_rank)?;
                form = only(form, (Form::Kronecker(first, second), s), layer)?;
            }
            (None, None) => {}
            _ => return Err(missing("a half of LoKr")),
        }
        match (take(Role::Factors), take(Role::OnInput)) {
            (Some(by), Some(on_input)) => {
                let on_input = self.numbers.get(&on_input).is_some_and(|value| *value != 0.0);
                form = only(form, (Form::Scaled { by, on_input }, 1.0), layer)?;
            }
            (None, None) => {}
            (Some(name), None) => return Err(format!("{name} is a whole weight")),
            (None, Some(_)) => return Err(missing("the factors of IA3")),
        }
        for whole in [Role::Diff, Role::Norm] {
            if let Some(name) = take(whole) {
                form = only(form, (Form::Added(name), 1.0), layer)?;
            }
        }
        let dora = take(Role::DoraScale).map(|name| {
            let shape_of_scale = self.tensors.get(&name).map_or(&[][..], |tensor| tensor.shape);
            // [out,1,..] or [out]; before, [1,in,..].
            let by_rows = shape_of_scale.first() == shape.first() && shape_of_scale[1..].iter().all(|side| *side == 1);
            Magnitudes { name, on_input: !by_rows }
        });
        let peft = take(Role::MagnitudeVector).map(|name| Magnitudes { name, on_input: false });
        let mut biases = Vec::new();
        for (role, s) in [(Role::DiffBias, 1.0), (Role::NormBias, 1.0)] {
            biases.extend(take(role).map(|name| (name, s)));
        }
        biases.extend(up_bias.map(|name| (name, product_scale)));
        if let Some(name) = left.values().next() {
            return Err(format!("{name} stands alone"));
        }
        let mut found = Vec::new();
        match (form, dora.or(peft)) {
            (Some((form, s)), magnitudes) => {
                let change = Change::new(&self.tensors, form, s, magnitudes, shape)?;
                found.push((format!("{layer}.weight"), change));
            }
            (None, Some(Magnitudes { name, .. })) => return Err(format!("{name} stands alone")),
            (None, None) => {}
        }
        for (name, s) in biases {
            let shape = shape_of("bias").ok_or_else(|| format!("{name} is for a bias, and {layer} has none"))?;
            found.push((format!("{layer}.bias"), Change::new(&self.tensors, Form::Added(name), s, None, shape)?));
        }
        Ok(found)
    }
}

/// A layer has one difference.
fn only(before: Option<(Form, f32)>, form: (Form, f32), layer: &str) -> Result<Option<(Form, f32)>, String> {
    if before.is_some() { Err(format!("{layer} has differences of two forms")) } else { Ok(Some(form)) }
}

/// What a layer's differences are multiplied by.
struct Scale<'a> {
    numbers: &'a BTreeMap<String, f64>,
    adapter: Option<&'a AdapterConfig>,
    component: Component,
    layer: &'a str,
}

impl Scale<'_> {
    /// alpha / rank, by the layer's own alpha, else by PEFT's configuration, else 1.
    fn of_rank(&self, alpha: Option<&str>, rank: usize) -> Result<f32, String> {
        if rank == 0 {
            return Err(format!("{} has rank 0", self.layer));
        }
        Ok(match (alpha.and_then(|alpha| self.numbers.get(alpha)), self.adapter) {
            (Some(alpha), _) => (alpha / rank as f64) as f32,
            (None, Some(adapter)) => adapter.scale(self.component, self.layer, rank)?,
            (None, None) => 1.0,
        })
    }
}

/// The family of a model, which LoRAs are made for.
#[must_use]
pub fn family_of(configs: &ModelConfigs) -> Family {
    match configs.version() {
        version if version.is_xl() => Family::Xl,
        SDVersion::V2_1 | SDVersion::V2Inpaint => Family::Sd2,
        _ => Family::Sd1,
    }
}

/// What kind of model it is that a LoRA is fitted to.
fn kind_of(configs: &ModelConfigs) -> &'static str {
    family_of(configs).name()
}

/// A number that stands alone; `None` where it is none.
async fn number(files: &Files, name: &str) -> Result<Option<f64>> {
    let Some(tensor) = files.tensor(name) else { return Ok(None) };
    if tensor.shape.iter().product::<usize>() != 1 || tensor.n_bytes > MAX_NUMBER {
        return Ok(None);
    }
    let bytes = files.read(name, 0, tensor.n_bytes as usize).await?;
    if let Dtype::Other(kind) = tensor.dtype {
        // Whole numbers and truth values.
        let is_negative = kind.starts_with('I') && bytes.last().is_some_and(|byte| *byte >= 0x80);
        let mut whole = [if is_negative { 0xff } else { 0 }; MAX_NUMBER as usize];
        whole[..bytes.len()].copy_from_slice(&bytes);
        let value = if is_negative { i64::from_le_bytes(whole) as f64 } else { u64::from_le_bytes(whole) as f64 };
        return Ok(Some(value));
    }
    let value = crate::weights::convert::f32_from_le_bytes(tensor.dtype, &bytes);
    Ok(value.and_then(|values| values.first().map(|value| f64::from(*value))))
}
