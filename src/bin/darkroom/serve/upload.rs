//! A picture that a client sent: it stays a file in memory until it is drawn from.

use std::fmt;

use axum::body::Bytes;
use axum::http::StatusCode;
use darkroom::image::{RgbImage, decode, decode_mask, decode_opacity, memory_needed};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use super::base64_text;
use super::failure::Failure;
use super::room::Room;

/// The bytes of a picture file, as they came: nothing is known of them until [`Upload::check`]. A clone shares
/// them.
#[derive(Clone)]
pub struct Upload {
    /// Or why there are none; told when the request is checked, with the name of the field.
    bytes: Result<Bytes, String>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({} bytes)", self.n_bytes())
    }
}

impl From<Bytes> for Upload {
    /// From the bytes of the file.
    fn from(bytes: Bytes) -> Self {
        Upload { bytes: Ok(bytes) }
    }
}

/// What a picture is for, which decides how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The picture to start from.
    Image,
    /// Where it is repainted.
    Mask(MaskForm),
}

/// How a mask says what is repainted. Transparency decides where it is not the same everywhere, the colours elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskForm {
    /// White, and what the library makes of transparency.
    #[default]
    White,
    /// OpenAI's: where it is transparent, whatever its colours; white where nothing is.
    TransparentIsRepainted,
    /// AUTOMATIC1111's: where it is opaque, whatever its colours; white where everything is. `inverted` is the reverse.
    OpaqueIsRepainted { inverted: bool },
}

impl Role {
    /// The field's name.
    fn name(self) -> &'static str {
        match self {
            Role::Image => "image",
            Role::Mask(_) => "mask",
        }
    }

    fn decode(self, bytes: &[u8]) -> Result<RgbImage, Failure> {
        let decode = || decode(bytes).map_err(|error| named(self.name(), &error));
        let (is_alpha_inverted, is_white_inverted) = match self {
            Role::Image => return decode(),
            Role::Mask(MaskForm::White) => {
                let mask = decode_mask(bytes).map_err(|error| named(self.name(), &error))?;
                return Ok(mask.0);
            }
            Role::Mask(MaskForm::TransparentIsRepainted) => (true, false),
            Role::Mask(MaskForm::OpaqueIsRepainted { inverted }) => (inverted, inverted),
        };
        let invert = |mut mask: RgbImage, is_inverted: bool| {
            if is_inverted {
                mask.pixels.iter_mut().for_each(|level| *level = 255 - *level);
            }
            mask
        };
        match decode_opacity(bytes).map_err(|error| named(self.name(), &error))? {
            Some(mask) => Ok(invert(mask, is_alpha_inverted)),
            None => Ok(invert(decode()?, is_white_inverted)),
        }
    }
}

impl Upload {
    /// From base64, also as a `data:` URL. Text that is not base64 is refused by [`Upload::check`].
    pub fn from_base64(text: &str) -> Self {
        Upload { bytes: base64_text::decode(text).map(Bytes::from) }
    }

    /// Whether it came as an empty text, which some programs send for nothing.
    pub fn is_blank(&self) -> bool {
        self.bytes.as_ref().is_err_and(|reason| reason == base64_text::EMPTY)
    }

    /// Its bytes, of the field `name`.
    ///
    /// # Errors
    /// 400 for text that is not base64.
    pub fn file(&self, name: &str) -> Result<Bytes, Failure> {
        let bytes = self.bytes.clone();
        bytes.map_err(|reason| Failure::of(name, format!("{name} is not base64: {reason}")))
    }

    /// Bytes that it holds.
    pub fn n_bytes(&self) -> usize {
        self.bytes.as_ref().map_or(0, Bytes::len)
    }

    /// Reads the whole picture once, off the HTTP thread and in its turn, and forgets its pixels: what is damaged or too
    /// large is refused before the job waits. Gives width and height in pixels, upright.
    ///
    /// # Errors
    /// 400 with the field's name in front of the reason; 413 for a picture that would take more memory than one may.
    pub async fn check(&self, room: &Room, role: Role) -> Result<(usize, usize), Failure> {
        let bytes = self.bytes(role)?.clone();
        let needs = needs(&bytes, room, role)?;
        room.work(needs, move || role.decode(&bytes).map(|picture| (picture.width, picture.height))).await?
    }

    /// Its pixels, made by `shrink` into what is kept of them; here and now, on the calling thread, in its turn.
    ///
    /// # Errors
    /// As [`Upload::check`].
    pub fn read_here<T>(&self, room: &Room, role: Role, shrink: impl FnOnce(RgbImage) -> T) -> Result<T, Failure> {
        let bytes = self.bytes(role)?;
        let turn = pollster::block_on(room.turn(needs(bytes, room, role)?))?;
        let kept = shrink(role.decode(bytes)?);
        drop(turn);
        Ok(kept)
    }

    fn bytes(&self, role: Role) -> Result<&Bytes, Failure> {
        let name = role.name();
        self.bytes.as_ref().map_err(|reason| Failure::of(name, format!("{name} is not base64: {reason}")))
    }
}

/// Memory that reading it takes, from the file's header alone; 0 where that cannot be read, which costs nothing to find
/// out.
fn needs(bytes: &[u8], room: &Room, role: Role) -> Result<u64, Failure> {
    let Ok(n_bytes) = memory_needed(bytes) else { return Ok(0) };
    if n_bytes > room.most_bytes() {
        let message = format!(
            "{} takes {} MiB to read, and this server allows {}: send a smaller one",
            role.name(),
            n_bytes >> 20,
            room.most_bytes() >> 20
        );
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "picture_too_large", message));
    }
    Ok(n_bytes)
}

fn named(name: &str, error: &darkroom::Error) -> Failure {
    let message = match error {
        darkroom::Error::Image { reason, .. } => format!("{name}: {reason}"),
        other => format!("{name}: {other}"),
    };
    Failure::of(name, message)
}

/// Reads the text where it stands: a picture is not copied as text first.
struct Base64;

impl Visitor<'_> for Base64 {
    type Value = Upload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a picture in base64")
    }

    fn visit_str<E>(self, text: &str) -> Result<Upload, E> {
        Ok(Upload::from_base64(text))
    }
}

impl<'de> Deserialize<'de> for Upload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64)
    }
}
