//! Handshakes: how webhook senders verify an address before they send to it.

/// Maximum length of a verify token, in characters.
pub(crate) const VERIFY_TOKEN_MAX: u64 = 256;

/// Type of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeKind {
    /// `OPTIONS` with `WebHook-Request-Origin`, as in the `CloudEvents` specification of webhooks.
    CloudEvents,
    /// `GET` with `challenge`.
    Dropbox,
    /// `HEAD`.
    Head,
    /// `GET` with `hub.challenge` and optionally `hub.verify_token` (`WebSub`, Meta).
    Hub,
    /// `POST` with `validationToken` in the address.
    MicrosoftGraph,
    /// `GET` with the header `X-Okta-Verification-Challenge`.
    Okta,
    /// No handshake: `PUT` in place of `POST`.
    Put,
    /// `POST` of JSON with `"type": "url_verification"` and a `challenge`.
    Slack,
}

impl HandshakeKind {
    const ALL: [Self; 8] = [
        Self::CloudEvents,
        Self::Dropbox,
        Self::Head,
        Self::Hub,
        Self::MicrosoftGraph,
        Self::Okta,
        Self::Put,
        Self::Slack,
    ];
    /// Names in the setting, in the order of the kinds.
    pub const NAMES: [&str; 8] = [
        "cloudevents",
        "dropbox",
        "head",
        "hub",
        "microsoft_graph",
        "okta",
        "put",
        "slack",
    ];
}

/// Handshakes that a source answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandshakeSettings {
    /// In the order in which they were set.
    kinds: Vec<HandshakeKind>,
    /// Required `hub.verify_token`; empty: any.
    pub verify_token: String,
}

impl HandshakeSettings {
    /// Whether this kind is answered.
    pub fn has(&self, kind: HandshakeKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Answers this kind too.
    pub fn include(&mut self, kind: HandshakeKind) {
        if !self.has(kind) {
            self.kinds.push(kind);
        }
    }

    /// Names of the answered kinds.
    pub fn names(&self) -> Vec<&'static str> {
        let kinds = self.kinds.iter();
        kinds
            .map(|kind| HandshakeKind::NAMES[*kind as usize])
            .collect()
    }

    /// Sets the answered kinds by name.
    pub fn set_names(&mut self, names: &[String]) {
        let kind_of = |name: &String| {
            let at = HandshakeKind::NAMES.iter().position(|n| n == name)?;
            Some(HandshakeKind::ALL[at])
        };
        self.kinds = names.iter().filter_map(kind_of).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_names() {
        for (kind, name) in HandshakeKind::ALL.into_iter().zip(HandshakeKind::NAMES) {
            let mut only = HandshakeSettings::default();
            only.set_names(&[name.to_owned(), "other".to_owned()]);
            assert!(only.has(kind), "{name}");
            assert_eq!(only.names(), [name]);
        }
        assert!(HandshakeKind::NAMES.is_sorted());
    }
}
