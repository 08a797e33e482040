//! The samplers' names. Deliberately not: what they do, which is one file per sampler.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A sampler, with the variants of DPM-Solver++ that people know by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// Denoising diffusion implicit models with eta 0 (arXiv 2010.02502).
    Ddim,
    /// Pseudo numerical methods, linear multistep; also called PLMS (arXiv 2202.09778).
    Pndm,
    /// Euler's method on the probability-flow ODE (arXiv 2206.00364, algorithm 2 without churn).
    Euler,
    /// Euler's method with noise added back in every step.
    EulerAncestral,
    /// DPM-Solver++, second-order multistep (arXiv 2211.01095).
    DpmPp2m,
    /// [`SamplerKind::DpmPp2m`] on the noise levels of Karras et al.
    DpmPp2mKarras,
    /// The stochastic form of [`SamplerKind::DpmPp2m`].
    DpmPp2mSde,
    /// DPM-Solver++, second-order single-step, stochastic.
    DpmPp2sSde,
    /// Heun's method: two model calls in every step but the last.
    Heun,
    /// Unified predictor-corrector (arXiv 2302.04867).
    UniPc,
    /// Latent consistency models, for checkpoints distilled for it (arXiv 2310.04378).
    Lcm,
}

impl SamplerKind {
    /// All samplers, in the order in which a menu shows them.
    pub const ALL: [SamplerKind; 11] = [
        SamplerKind::DpmPp2m,
        SamplerKind::DpmPp2mKarras,
        SamplerKind::DpmPp2mSde,
        SamplerKind::DpmPp2sSde,
        SamplerKind::UniPc,
        SamplerKind::Euler,
        SamplerKind::EulerAncestral,
        SamplerKind::Heun,
        SamplerKind::Ddim,
        SamplerKind::Pndm,
        SamplerKind::Lcm,
    ];

    /// The name that requests, metadata and the command line use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SamplerKind::Ddim => "ddim",
            SamplerKind::Pndm => "pndm",
            SamplerKind::Euler => "euler",
            SamplerKind::EulerAncestral => "euler_a",
            SamplerKind::DpmPp2m => "dpm++2m",
            SamplerKind::DpmPp2mKarras => "dpm++2m_karras",
            SamplerKind::DpmPp2mSde => "dpm++2m_sde",
            SamplerKind::DpmPp2sSde => "dpm++2s_sde",
            SamplerKind::Heun => "heun",
            SamplerKind::UniPc => "unipc",
            SamplerKind::Lcm => "lcm",
        }
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SamplerKind {
    type Err = Error;

    /// Case, spaces, `-` and `_` do not matter; `pp` stands for `++`; `plms` and `euler_ancestral` are known too.
    ///
    /// # Errors
    /// [`Error::Request`] with the names that work.
    fn from_str(name: &str) -> Result<Self> {
        let plain: String = name.to_lowercase().chars().filter(|c| !c.is_whitespace() && !"-_".contains(*c)).collect();
        Ok(match plain.replace("dpmpp", "dpm++").as_str() {
            "ddim" => SamplerKind::Ddim,
            "pndm" | "plms" => SamplerKind::Pndm,
            "euler" => SamplerKind::Euler,
            "eulera" | "eulerancestral" => SamplerKind::EulerAncestral,
            "dpm++2m" => SamplerKind::DpmPp2m,
            "dpm++2mkarras" => SamplerKind::DpmPp2mKarras,
            "dpm++2msde" => SamplerKind::DpmPp2mSde,
            "dpm++2ssde" => SamplerKind::DpmPp2sSde,
            "heun" => SamplerKind::Heun,
            "unipc" => SamplerKind::UniPc,
            "lcm" => SamplerKind::Lcm,
            _ => {
                return Err(Error::Request {
                    field: "sampler",
                    got: format!("{name:?}"),
                    expected: format!("the samplers are {}", SamplerKind::ALL.map(SamplerKind::name).join(", ")),
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_sampler() {
        for kind in SamplerKind::ALL {
            assert_eq!(kind.name().parse::<SamplerKind>().unwrap(), kind);
            assert_eq!(kind.to_string().to_uppercase().parse::<SamplerKind>().unwrap(), kind);
        }
    }

    #[test]
    fn spellings_in_use_are_understood() {
        for (name, kind) in [
            ("PLMS", SamplerKind::Pndm),
            ("Euler a", SamplerKind::EulerAncestral),
            ("euler-ancestral", SamplerKind::EulerAncestral),
            ("dpmpp_2m", SamplerKind::DpmPp2m),
            ("DPM++ 2M", SamplerKind::DpmPp2m),
            ("DPM++ 2M Karras", SamplerKind::DpmPp2mKarras),
            ("dpm++-2m-sde", SamplerKind::DpmPp2mSde),
            ("DPM++ 2S SDE", SamplerKind::DpmPp2sSde),
            ("UniPC", SamplerKind::UniPc),
        ] {
            assert_eq!(name.parse::<SamplerKind>().unwrap(), kind, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = "dpm3".parse::<SamplerKind>().unwrap_err().to_string();
        assert!(message.starts_with("sampler \"dpm3\" is not possible"), "{message}");
        for kind in SamplerKind::ALL {
            assert!(message.contains(kind.name()), "{message}");
        }
    }
}
