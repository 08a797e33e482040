//! What a server refused or did wrong, in words that say what to do.

use super::super::RepoId;
use super::super::http::{Broken, Http};
use super::super::retry::is_of_server;
use super::{Layout, Remote};
use crate::error::Error;

/// How a user gives a token or another server, which differs between the page and the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What to do with a token.
    pub token: &'static str,
    /// How to use another server.
    pub mirror: &'static str,
    /// What works without a Hub, after a comma; may be empty.
    pub otherwise: &'static str,
}

impl Advice {
    /// For the page, which has a form.
    pub const PAGE: Advice = Advice { token: "give", mirror: "set another endpoint", otherwise: "" };

    /// For the command line, which reads the environment.
    pub const COMMAND_LINE: Advice = Advice {
        token: "set HF_TOKEN to",
        mirror: "set HF_ENDPOINT to a mirror",
        otherwise: ", or give the path of a folder that has the model in diffusers' layout",
    };
}

/// Why a listing or text could not be had.
pub enum Refusal {
    /// The server answered with this status.
    Status(u16),
    /// Anything else, as the final error.
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Other(error)
    }
}

impl Remote {
    /// The error for a status that ended the attempts. `repo` is `owner/name`, `path` the file, or nothing for the list of files.
    #[must_use]
    pub fn refusal(&self, repo: &str, path: Option<&str>, status: u16) -> Error {
        let (endpoint, Advice { token, otherwise, .. }) = (&self.endpoint, self.advice);
        let what = path.unwrap_or("the list of files");
        let reason = match status {
            _ if matches!(self.layout, Layout::Address(_)) => match status {
                401 | 403 => format!(
                    "{endpoint} refuses the file ({status}): it needs a login. Download it in a browser and give its path"
                ),
                404 | 410 => format!("{endpoint} has no such file ({status}): check the address"),
                _ => format!("{endpoint} answers with HTTP status {status}: try again later, which resumes"),
            },
            401 | 403 if self.token.is_none() => {
                let refuses =
                    if status == 401 { "asks for a login".to_owned() } else { format!("refuses access ({status})") };
                format!(
                    "{endpoint} {refuses} for {what}: the model is gated or private, or does not exist, so an access token is \
                     needed. Accept its licence at {endpoint}/{repo} and {token} a token from {endpoint}/settings/tokens\
                     {otherwise}"
                )
            }
            401 | 403 => format!(
                "{endpoint} refuses access ({status}) to {what}: the model is gated or private, and the access token is wrong \
                 or not allowed to read it. Accept its licence at {endpoint}/{repo} and check the token at \
                 {endpoint}/settings/tokens{otherwise}"
            ),
            404 | 410 => {
                let lacks = path.map_or_else(|| "such repository or revision".to_owned(), str::to_owned);
                format!(
                    "{endpoint} has no {lacks} ({status}): check the spelling (owner/name@revision), or choose another \
                     model{otherwise}"
                )
            }
            429 => format!("{endpoint} gets too many requests from here (429): wait some minutes, then try again"),
            _ => format!(
                "{endpoint} answers {what} with HTTP status {status}: try again later, which resumes{otherwise}"
            ),
        };
        let repo = repo.to_owned();
        if is_of_server(status) { Error::Network { repo, reason } } else { Error::Hub { repo, reason } }
    }

    /// The error for an answer that no Hub gives.
    pub(super) fn odd(&self, repo: &RepoId, what: &str) -> Error {
        let reason =
            format!("{} does not answer as the Hub does ({what}): check the endpoint and the proxy", self.endpoint);
        Error::Hub { repo: repo.to_string(), reason }
    }

    /// The error for a server that cannot be reached. `name` is the model's.
    pub(super) fn unreachable(&self, http: &dyn Http, name: &str, broken: &Broken) -> Error {
        let (endpoint, Advice { mirror, otherwise, .. }) = (&self.endpoint, self.advice);
        let reason = match self.layout {
            Layout::Address(_) => format!(
                "{endpoint} cannot be reached ({}): check the address and the network{}",
                broken.0,
                http.unreachable_hint()
            ),
            _ => format!(
                "{endpoint} cannot be reached ({}): connect to the network and try again, or {mirror}{otherwise}",
                broken.0
            ),
        };
        Error::Network { repo: name.to_owned(), reason }
    }
}
