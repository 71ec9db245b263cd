//! Violations of a definition, and checks of single values.

use std::collections::BTreeMap;
use std::fmt::Display;

use forebay_model::{HumanDuration, is_own_http_header, out_of_range};
use forebay_record::path::CompiledPath;
use http::{HeaderName, HeaderValue};

use crate::definition::HttpAuth;

type NameValues = BTreeMap<String, String>;

/// Violations of a definition so far.
#[derive(Default)]
pub(super) struct DefinitionViolations(pub(super) Vec<String>);

impl DefinitionViolations {
    pub(super) fn add(&mut self, text: String) {
        self.0.push(text);
    }

    pub(super) fn range<T: PartialOrd + Display>(&mut self, at: &str, given: T, min: T, max: T) {
        self.0.extend(out_of_range(at, given, min, max));
    }

    pub(super) fn wait(&mut self, at: &str, given: HumanDuration) {
        self.range(at, given, HumanDuration::millis(1), HumanDuration::hours(1));
    }

    pub(super) fn url(&mut self, at: &str, url: &str) {
        let parsed = reqwest::Url::parse(url);
        match parsed {
            Err(e) => self.add(format!("{at} is \"{url}\", which is not a URL: {e}")),
            Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => self.add(format!(
                "{at} has the scheme {}, allowed is http and https",
                parsed.scheme()
            )),
            Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
                self.add(format!("{at} has a user or password: use auth"));
            }
            Ok(_) => {}
        }
    }

    pub(super) fn headers(&mut self, at: &str, headers: &NameValues) {
        for (name, value) in headers {
            if HeaderName::try_from(name).is_err() {
                self.add(format!("{at}.{name} is not a valid header name"));
            } else if is_own_http_header(name) {
                self.add(format!("{at}.{name} can't be set: the client sets it"));
            }
            if HeaderValue::try_from(value).is_err() {
                self.add(format!(
                    "{at}.{name} has a value that is not valid in a header"
                ));
            }
        }
    }

    /// Compiles a path, or adds a violation.
    pub(super) fn path(&mut self, at: &str, text: &str) -> Option<CompiledPath> {
        let compiled = CompiledPath::compile(text);
        compiled
            .map_err(|e| self.add(format!("{at} is \"{text}\", which is not a path: {e}")))
            .ok()
    }

    pub(super) fn auth(&mut self, at: &str, auth: Option<&HttpAuth>) {
        let Some(auth) = auth else { return };
        if HeaderName::try_from(&auth.header).is_err() {
            self.add(format!("{at}.header is not a valid header name"));
        } else if is_own_http_header(&auth.header) {
            let header = &auth.header;
            self.add(format!("{at}.header is {header}, which the client sets"));
        }
        if auth.token.expose().is_empty() {
            self.add(format!("{at}.token is empty"));
        } else if HeaderValue::try_from(auth.token.expose()).is_err() {
            self.add(format!(
                "{at}.token has a character that is not valid in a header"
            ));
        }
    }
}
