//! The one error type. Each variant carries what a caller needs to act on: what was asked, what would work, where.
//!
//! Messages are one line, lower case, without a full stop, and name no source code. What a caller does about an error
//! follows from its [`Class`]: exit codes, HTTP statuses and the codes that programs read are each one table over it.

pub(crate) mod words;

use std::fmt;

use self::words::{in_words, rounded_up};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A tensor shape as error messages print it: `[320, 4, 3, 3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dims(pub Vec<usize>);

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl From<&[usize]> for Dims {
    fn from(dims: &[usize]) -> Self {
        Dims(dims.to_vec())
    }
}

/// What an error is about, and so what can be done. The set is closed: every front end has a table over all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A setting of the request: change it; the message says which one and what would work.
    Request,
    /// The checkpoint, or how it is fetched: choose another model, or fetch this one again.
    Model,
    /// The device: choose another one, or load the model again.
    Device,
    /// Too little memory, or too large a value for the device: draw a smaller picture, or set a smaller budget.
    Memory,
    /// The device went away: load the model again; a generation can go on from its last checkpoint.
    Lost,
    /// A picture that was given: give another one.
    Picture,
    /// A file or folder that cannot be read or written.
    File,
    /// The network: a host that cannot be reached, or does not go on answering. Try again.
    Network,
    /// Where downloaded models are kept: free space.
    Storage,
    /// The caller asked to stop.
    Cancelled,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 10] = [
        Class::Request,
        Class::Model,
        Class::Device,
        Class::Memory,
        Class::Lost,
        Class::Picture,
        Class::File,
        Class::Network,
        Class::Storage,
        Class::Cancelled,
    ];

    /// The word that programs read, the same in the page's errors and in the server's answers.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Class::Request => "request",
            Class::Model => "model",
            Class::Device => "device",
            Class::Memory => "memory",
            Class::Lost => "lost",
            Class::Picture => "picture",
            Class::File => "file",
            Class::Network => "network",
            Class::Storage => "storage",
            Class::Cancelled => "cancelled",
        }
    }
}

/// Who reads a message: what would work is a flag for one and a choice in a menu for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Somebody at the command line, or who started a server there.
    CommandLine,
    /// Somebody at the page, or who writes another one.
    Page,
}

/// What makes a checkpoint usable that is not by itself. Each has a word for programs and one sentence for each [`Door`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// To say whether it predicts noise or velocity.
    Prediction,
    /// To give its configuration.
    Config,
    /// To give a model that has the text encoder it lacks.
    TextEncoder,
    /// To give a VAE, which it lacks.
    Vae,
    /// To use it as the VAE of a model.
    AsVae,
    /// To use it as the decoder of a model.
    AsDecoder,
    /// To use it within a model.
    AsTextEncoder,
}

impl Remedy {
    /// Every remedy.
    pub const ALL: [Remedy; 7] = [
        Remedy::Prediction,
        Remedy::Config,
        Remedy::TextEncoder,
        Remedy::Vae,
        Remedy::AsVae,
        Remedy::AsDecoder,
        Remedy::AsTextEncoder,
    ];

    /// The word that programs read: `needs` of what the page's worker throws.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Remedy::Prediction => "prediction",
            Remedy::Config => "config",
            Remedy::TextEncoder => "text_encoder",
            Remedy::Vae => "vae",
            Remedy::AsVae => "as_vae",
            Remedy::AsDecoder => "as_decoder",
            Remedy::AsTextEncoder => "as_text_encoder",
        }
    }

    /// What to do, as the end of a message.
    #[must_use]
    pub const fn words(self, door: Door) -> &'static str {
        match (self, door) {
            (Remedy::Prediction, Door::CommandLine) => "pass --prediction epsilon or --prediction v",
            (Remedy::Prediction, Door::Page) => "choose under Models what it predicts (`prediction`: `epsilon` or `v`)",
            (Remedy::Config, Door::CommandLine) => {
                "pass the folder with its JSON files and tokenizer (--config FOLDER)"
            }
            (Remedy::Config, Door::Page) => "import it together with the folder of its JSON files and tokenizer",
            (Remedy::TextEncoder, Door::CommandLine) => {
                "pass a folder of the same family that has one with --config FOLDER"
            }
            (Remedy::TextEncoder, Door::Page) => "choose a kept model that has one under Models (`base`)",
            (Remedy::Vae, Door::CommandLine) => "pass one with --vae FILE, FOLDER or owner/repo",
            (Remedy::Vae, Door::Page) => "choose a kept one under Models (`vae`)",
            (Remedy::AsVae, Door::CommandLine) => "pass it with --vae",
            (Remedy::AsVae, Door::Page) => "choose it under Models as the VAE of a model (`vae`)",
            (Remedy::AsDecoder, Door::CommandLine) => "pass it with --taesd",
            (Remedy::AsDecoder, Door::Page) => "choose it under Models as the decoder of a model (`taesd`)",
            (Remedy::AsTextEncoder, Door::CommandLine) => "use it in the folder of one (--config FOLDER)",
            (Remedy::AsTextEncoder, Door::Page) => "use it in the folder of one",
        }
    }
}

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting of the request that cannot be drawn, with what would work.
    #[error("{field} {got} is not possible: {expected}")]
    Request { field: &'static str, got: String, expected: String },
    /// A JSON file of the checkpoint that is missing a field, malformed, or describes something unsupported.
    #[error("{file}: {reason}")]
    Config { file: String, reason: String },
    /// A safetensors file whose header or size is not what the format says.
    #[error("{file} is not a valid safetensors file: {reason}")]
    Safetensors { file: String, reason: String },
    /// A GGUF file whose header or size is not what the format says.
    #[error("{file} is not a valid GGUF file: {reason}")]
    Gguf { file: String, reason: String },
    /// The model needs a tensor that no weight file has.
    #[error("tensor {name} with shape {expected} is missing from {file}")]
    TensorMissing { name: String, file: String, expected: Dims },
    /// A tensor of another shape than the config says.
    #[error("tensor {name} in {file} has shape {got}, but the config asks for {expected}")]
    TensorShape { name: String, file: String, expected: Dims, got: Dims },
    /// A tensor of a type that weights cannot have.
    #[error("tensor {name} in {file} has type {got}: expected F32, F16, BF16, F64, F8_E4M3 or F8_E5M2")]
    TensorDtype { name: String, file: String, got: String },
    /// An operation of a graph whose inputs do not fit. A fault of the model code or its config.
    #[error("{node}: {op} {reason}")]
    Shape { node: String, op: &'static str, reason: String },
    /// Tokenizer files that do not parse.
    #[error("{file}: {reason}")]
    Tokenizer { file: String, reason: String },
    /// A picture that cannot be read or written.
    #[error("{what}: {reason}")]
    Image { what: String, reason: String },
    /// A file or folder that cannot be read or written.
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// Something the Hub or its cache could not give.
    #[error("{repo}: {reason}")]
    Hub { repo: String, reason: String },
    /// A host that cannot be reached, or broke off too often.
    #[error("{repo}: {reason}")]
    Network { repo: String, reason: String },
    /// A checkpoint that cannot be used so. As text it is worded for the command line; [`Error::message`] words it for others.
    #[error("{repo}: {reason}: {}", .remedy.words(Door::CommandLine))]
    Unfit { repo: String, reason: String, remedy: Remedy },
    /// A store of downloaded files that cannot be opened, read or written.
    #[error("{store}: {reason}")]
    Store { store: String, reason: String },
    /// A store without room for what is still to come, in bytes. What it holds is intact.
    #[error(
        "no room for the model: it needs {} more{}: remove a model or free disk space, then go on",
        in_words(rounded_up(*.missing_bytes)),
        .free_bytes.map(|bytes| format!(", with {} free", in_words(bytes))).unwrap_or_default()
    )]
    StoreFull { missing_bytes: u64, free_bytes: Option<u64> },
    /// A device that is absent or cannot do what was asked.
    #[error("device {device}: {reason}")]
    Device { device: String, reason: String },
    /// A runner failed at one node of a graph.
    #[error("{node} failed on {device}: {reason}")]
    Run { node: String, device: String, reason: String },
    /// A value that is larger than the device lets a kernel see, in bytes.
    #[error(
        "{what} needs {needs} bytes in one piece, and this device allows {allows}: draw a smaller picture, or on the CPU"
    )]
    Limit { what: String, needs: u64, allows: u64 },
    /// A device that has no memory left for a stage.
    #[error(
        "{stage} ran out of memory on {device}: draw a smaller picture, keep fewer components loaded, or close what else uses it ({reason})"
    )]
    OutOfMemory { stage: String, device: String, reason: String },
    /// A device that went away: its driver was reset, it was unplugged, or the browser took it back.
    #[error("{device} was lost during {stage}: {reason}")]
    DeviceLost { stage: String, device: String, reason: String },
    /// A stage gave NaN or infinity even in f32.
    #[error(
        "{stage} gave a value that is not finite, also in f32: the checkpoint, a LoRA or the settings are at fault"
    )]
    NotFinite { stage: String },
    /// A stage gave NaN or infinity, and so has a tensor of the checkpoint.
    #[error(
        "{stage} gave a value that is not finite, because tensor {name} in {file} has some: the file is damaged or was merged wrongly, so use another one"
    )]
    WeightNotFinite { stage: String, name: String, file: String },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// What it is about.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Error::Request { .. } => Class::Request,
            Error::Config { .. }
            | Error::Safetensors { .. }
            | Error::Gguf { .. }
            | Error::TensorMissing { .. }
            | Error::TensorShape { .. }
            | Error::TensorDtype { .. }
            | Error::WeightNotFinite { .. }
            | Error::Shape { .. }
            | Error::Tokenizer { .. }
            | Error::Unfit { .. }
            | Error::Hub { .. } => Class::Model,
            Error::Device { .. } | Error::Run { .. } | Error::NotFinite { .. } => Class::Device,
            Error::Limit { .. } | Error::OutOfMemory { .. } => Class::Memory,
            Error::DeviceLost { .. } => Class::Lost,
            Error::Image { .. } => Class::Picture,
            Error::Io { .. } => Class::File,
            Error::Network { .. } => Class::Network,
            Error::Store { .. } | Error::StoreFull { .. } => Class::Storage,
            Error::Cancelled => Class::Cancelled,
        }
    }

    /// The setting at fault as JSON spells it, where it is one: `guidance_scale`.
    #[must_use]
    pub fn field(&self) -> Option<String> {
        match self {
            // One of the list.
            Error::Request { field: "lora", .. } => Some("loras".to_owned()),
            Error::Request { field, .. } => Some(field.replace(' ', "_")),
            Error::Config { .. }
            | Error::Safetensors { .. }
            | Error::Gguf { .. }
            | Error::TensorMissing { .. }
            | Error::TensorShape { .. }
            | Error::TensorDtype { .. }
            | Error::Shape { .. }
            | Error::Tokenizer { .. }
            | Error::Image { .. }
            | Error::Io { .. }
            | Error::Hub { .. }
            | Error::Network { .. }
            | Error::Unfit { .. }
            | Error::Store { .. }
            | Error::StoreFull { .. }
            | Error::Device { .. }
            | Error::Run { .. }
            | Error::Limit { .. }
            | Error::OutOfMemory { .. }
            | Error::DeviceLost { .. }
            | Error::NotFinite { .. }
            | Error::WeightNotFinite { .. }
            | Error::Cancelled => None,
        }
    }

    /// What would make a checkpoint usable, where the error is about that.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        if let Error::Unfit { remedy, .. } = self { Some(*remedy) } else { None }
    }

    /// The message as `door` reads it.
    #[must_use]
    pub fn message(&self, door: Door) -> String {
        match self {
            Error::Unfit { repo, reason, remedy } => format!("{repo}: {reason}: {}", remedy.words(door)),
            other => other.to_string(),
        }
    }

    /// The same error where a model was read: a file of it that cannot be read is a fault of the model, unlike a picture
    /// that cannot be read or written.
    #[must_use]
    pub fn of_model(self) -> Self {
        if let Error::Io { path, source } = self {
            return Error::Hub { repo: path, reason: source.to_string() };
        }
        self
    }

    /// The same error, about `what` if it is one about a picture: the file's name in place of the word.
    #[must_use]
    pub fn about(self, what: impl Into<String>) -> Self {
        if let Error::Image { reason, .. } = self {
            return Error::Image { what: what.into(), reason };
        }
        self
    }

    /// An [`Error::Io`] that names the path.
    #[must_use]
    pub fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Error::Io { path: path.display().to_string(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct() {
        let codes: std::collections::BTreeSet<_> = Class::ALL.map(Class::code).into_iter().collect();
        assert_eq!(codes.len(), Class::ALL.len());
    }

    #[test]
    fn each_door_has_its_own_words() {
        let codes: std::collections::BTreeSet<_> = Remedy::ALL.map(Remedy::code).into_iter().collect();
        assert_eq!(codes.len(), Remedy::ALL.len());
        for remedy in Remedy::ALL {
            let error = Error::Unfit { repo: "x.safetensors".into(), reason: "it is so".into(), remedy };
            let [own, page] = [Door::CommandLine, Door::Page].map(|door| error.message(door));
            assert_eq!(error.to_string(), own);
            assert!(own.contains("--") && !page.contains("--"), "{own}; {page}");
            assert_eq!((error.class(), error.remedy()), (Class::Model, Some(remedy)));
        }
    }

    #[test]
    fn a_setting_is_named_as_in_json() {
        let error = Error::Request { field: "guidance scale", got: "21".into(), expected: "use less".into() };
        assert_eq!((error.class(), error.field().as_deref()), (Class::Request, Some("guidance_scale")));
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::io(std::path::Path::new("unet"), missing);
        assert_eq!((error.class(), error.field()), (Class::File, None));
        assert_eq!(error.of_model().class(), Class::Model);
    }
}
