//! Vectors that senders publish (`docs/reference/webhooks.md` names where), and properties: a
//! request with any change is rejected.

use forebay_model::{
    HumanDuration, SignatureEncoding, SignatureHash, SignatureHeader, SignatureType,
};
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

/// A signed request, and the settings that accept it.
#[derive(Clone, Debug)]
struct SignedRequest {
    settings: SignatureSettings,
    headers: Vec<(&'static str, String)>,
    body: &'static [u8],
    /// Seconds since 1970.
    at: u64,
}

const GITHUB_SECRET: &str = "It's a Secret to Everybody";
const GITHUB_HEX: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const STRIPE_HEX: &str = "09357d4fb8d9eba6f07fdea6b2428fa819063ec7bb7f9eca18b88cf0ff729476";
const SLACK_HEX: &str = "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
const SLACK_BODY: &[u8] = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const STANDARD_BASE64: &str = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
/// Key, data and hashes of case 1 in RFC 4231 and RFC 2202.
const RFC_KEY: &str =
    "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b";
const RFC_DATA: &[u8] = b"Hi There";
const RFC_SHA256_BASE64: &str = "sDRMYdjbOFNcqK/OrwvxK4gdwgDJgz2nJuk3bC4yz/c=";
const RFC_SHA512: &str = "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854";
const RFC_SHA1_BASE64: &str = "thcxhlUFcmTii8C2+zeMjvFGvgA=";

fn settings(of: SignatureType, secret: &str) -> SignatureSettings {
    SignatureSettings {
        r#type: of,
        secrets: vec![secret.to_owned().into()],
        tolerance: None,
        header: None,
    }
}

fn own_header(hash: SignatureHash, encoding: SignatureEncoding, prefix: &str) -> SignatureSettings {
    SignatureSettings {
        header: Some(SignatureHeader {
            name: "X-Sig".to_owned(),
            hash,
            encoding,
            prefix: prefix.to_owned(),
        }),
        ..settings(SignatureType::Hmac, RFC_KEY)
    }
}

fn published() -> Vec<SignedRequest> {
    let request = |settings, headers: Vec<(&'static str, String)>, body, at| SignedRequest {
        settings,
        headers,
        body,
        at,
    };
    let standard = |names: [&'static str; 3]| {
        let values = [
            "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            "1614265330".to_owned(),
            format!("v1a,AAAA v1,{STANDARD_BASE64}"),
        ];
        request(
            settings(SignatureType::Standard, STANDARD_SECRET),
            names.into_iter().zip(values).collect(),
            b"{\"test\": 2432232314}",
            1_614_265_330,
        )
    };
    let upper = RFC_SHA512.to_ascii_uppercase();
    vec![
        request(
            settings(SignatureType::Github, GITHUB_SECRET),
            vec![("x-hub-signature-256", format!("sha256={GITHUB_HEX}"))],
            b"Hello, World!",
            0,
        ),
        request(
            settings(SignatureType::Stripe, "whsec_test_secret"),
            vec![(
                "stripe-signature",
                format!("t=1492774577, v1={GITHUB_HEX},v1={STRIPE_HEX},v0={SLACK_HEX}"),
            )],
            b"{\"id\": \"evt_1\", \"object\": \"event\"}",
            1_492_774_577,
        ),
        request(
            settings(SignatureType::Slack, "8f742231b10e8888abcd99yyyzzz85a5"),
            vec![
                ("x-slack-request-timestamp", "1531420618".to_owned()),
                ("x-slack-signature", format!("v0={SLACK_HEX}")),
            ],
            SLACK_BODY,
            1_531_420_618,
        ),
        request(
            settings(SignatureType::Shopify, RFC_KEY),
            vec![("x-shopify-hmac-sha256", RFC_SHA256_BASE64.to_owned())],
            RFC_DATA,
            0,
        ),
        standard(["webhook-id", "webhook-timestamp", "webhook-signature"]),
        standard(["svix-id", "svix-timestamp", "svix-signature"]),
        request(
            own_header(SignatureHash::Sha512, SignatureEncoding::Hex, "sha512="),
            vec![("x-sig", format!("sha512={upper}"))],
            RFC_DATA,
            0,
        ),
        request(
            own_header(SignatureHash::Sha1, SignatureEncoding::Base64, ""),
            vec![("x-sig", RFC_SHA1_BASE64.to_owned())],
            RFC_DATA,
            0,
        ),
    ]
}

impl SignedRequest {
    fn check(&self) -> Result<(), SignatureProblem> {
        self.check_body(self.body)
    }

    fn check_body(&self, body: &[u8]) -> Result<(), SignatureProblem> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let Ok(value) = HeaderValue::from_str(value) else {
                return Err(SignatureProblem::Missing((*name).to_owned()));
            };
            headers.append(HeaderName::from_static(name), value);
        }
        self.check_headers(&headers, body)
    }

    fn check_headers(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureProblem> {
        let source = SourceId::from_raw("s");
        let verifier = SignatureVerifier::new(ProjectId(1), &source, &self.settings);
        let now = Timestamp::from_millis(i64::try_from(self.at * 1000).unwrap());
        verifier.check(verifier.claim(headers), body, now)
    }

    /// The same request with other values of headers.
    fn with(&self, headers: &[(&'static str, &str)]) -> Self {
        let own = |(name, value): &(&'static str, &str)| (*name, (*value).to_owned());
        Self {
            headers: headers.iter().map(own).collect(),
            ..self.clone()
        }
    }
}

fn of(wanted: SignatureType) -> SignedRequest {
    let mut all = published().into_iter();
    all.find(|r| r.settings.r#type == wanted).unwrap()
}

fn problem(checked: Result<(), SignatureProblem>) -> String {
    checked.map_or_else(
        |e| format!("{}: {e}", e.cause()),
        |()| "accepted".to_owned(),
    )
}

#[test]
fn published_signatures_are_accepted() {
    for request in published() {
        assert_eq!(request.check(), Ok(()), "{request:?}");
    }
}

#[test]
fn any_of_the_secrets_is_accepted_and_no_other() {
    for request in published() {
        let right = request.settings.secrets[0].clone();
        let wrong = |n: u64| format!("QUJDREVGR0hJSktMTU5P{n:04}").into();
        for at in 0..4 {
            let mut rotated = request.clone();
            rotated.settings.secrets = (0..4).map(wrong).collect();
            let said = problem(rotated.check());
            assert!(said.starts_with("mismatch: "), "{said}");
            rotated.settings.secrets[at] = right.clone();
            assert_eq!(rotated.check(), Ok(()), "{at}");
        }
        // No usable key accepts nothing.
        let mut none = request.clone();
        none.settings.secrets.clear();
        assert!(none.check().is_err());
    }
}

#[test]
fn a_time_outside_the_tolerance_is_rejected() {
    for request in published() {
        let has_time = request.settings.r#type.has_time();
        for (tolerance, seconds, is_accepted) in [
            (None, 300, true),
            (None, 301, !has_time),
            (Some(10), 10, true),
            (Some(10), 11, !has_time),
            (Some(86_400), 86_400, true),
        ] {
            for before in [true, false] {
                let mut moved = request.clone();
                moved.settings.tolerance = tolerance.map(HumanDuration::secs);
                moved.at = match before {
                    true => request.at.saturating_sub(seconds),
                    false => request.at + seconds,
                };
                let said = problem(moved.check());
                assert_eq!(said == "accepted", is_accepted, "{said} {moved:?}");
                let side = if before { "after" } else { "before" };
                let text = format!("is {seconds} seconds {side} the time of the server");
                assert!(
                    is_accepted || said.starts_with("expired: ") && said.contains(&text),
                    "{said}"
                );
            }
        }
    }
}

#[test]
fn a_wrong_signature_is_not_told_about_its_time() {
    let mut request = of(SignatureType::Stripe);
    request.at += 4000;
    assert!(problem(request.check()).starts_with("expired"));
    assert!(problem(request.check_body(b"other")).starts_with("mismatch"));
}

/// Checks what is said about requests with these headers.
fn are_rejected(of_type: SignatureType, cases: &[(&[(&'static str, &str)], &str)]) {
    for (headers, expected) in cases {
        let said = problem(of(of_type).with(headers).check());
        assert!(said.starts_with(expected), "{expected}: {said}");
    }
}

#[test]
fn what_github_and_stripe_omit_or_malform_is_named() {
    const GITHUB: &str = "x-hub-signature-256";
    const STRIPE: &str = "stripe-signature";
    let missing = "missing: the header X-Hub-Signature-256 is missing";
    let no_prefix = "malformed: the header X-Hub-Signature-256 does not begin";
    are_rejected(
        SignatureType::Github,
        &[
            (&[], missing),
            (&[("x-hub-signature", "sha1=aa")], missing),
            (&[(GITHUB, GITHUB_HEX)], no_prefix),
            (&[(GITHUB, "sha256=")], "malformed"),
        ],
    );
    let only = format!("v1={STRIPE_HEX}");
    let no_time = "malformed: the header Stripe-Signature has no element t";
    let twice = "malformed: the header Stripe-Signature has more than one element t";
    let unsigned = "malformed: the header Stripe-Signature has no signature";
    are_rejected(
        SignatureType::Stripe,
        &[
            (&[], "missing: the header Stripe-Signature"),
            (&[(STRIPE, &only)], no_time),
            (&[(STRIPE, "t=+1,v1=00")], no_time),
            (&[(STRIPE, "t=1492774577")], unsigned),
            (&[(STRIPE, "t=1,t=2,v1=00")], twice),
        ],
    );
}

#[test]
fn what_slack_and_standard_senders_omit_or_malform_is_named() {
    const TIME: (&str, &str) = ("webhook-timestamp", "1614265330");
    let slack = ("x-slack-signature", "v0=00");
    let slack_time = |text| ("x-slack-request-timestamp", text);
    let no_time = "missing: the header X-Slack-Request-Timestamp";
    let not_a_time = "malformed: the header X-Slack-Request-Timestamp is not a time";
    are_rejected(
        SignatureType::Slack,
        &[
            (&[slack], no_time),
            (&[slack_time("1")], "missing: the header X-Slack-Signature"),
            (&[slack_time("9999999999999"), slack], not_a_time),
        ],
    );
    let text = format!("v1,{STANDARD_BASE64}");
    let signature = ("webhook-signature", text.as_str());
    let svix = ("svix-signature", text.as_str());
    let id = |text| ("webhook-id", text);
    let bad_id = "malformed: the header webhook-id";
    let no_v1 = "malformed: the header webhook-signature has no signature";
    let only_v1a = ("webhook-signature", "v1a,AAAA");
    let svix_time = "missing: the header svix-timestamp";
    // The headers of one form are not completed by those of the other.
    let mixed = [id("a"), ("svix-timestamp", TIME.1), svix];
    are_rejected(
        SignatureType::Standard,
        &[
            (&[TIME, signature], "missing: the header webhook-id"),
            (&[("svix-id", "a"), svix], svix_time),
            (&[id("a.1"), TIME, signature], bad_id),
            (&[id(""), TIME, signature], bad_id),
            (&[id("a"), TIME, only_v1a], no_v1),
            (&mixed, "missing: the header webhook-timestamp"),
        ],
    );
}

#[test]
fn a_header_that_appears_twice_is_rejected() {
    for request in published() {
        for at in 0..request.headers.len() {
            let mut doubled = request.clone();
            doubled.headers.push(request.headers[at].clone());
            let said = problem(doubled.check());
            assert!(said.contains("appears more than once"), "{said}");
        }
    }
}

#[test]
fn the_number_of_signatures_is_bounded() {
    let request = of(SignatureType::Stripe);
    let many = |n: usize| {
        let wrong = format!("v1={GITHUB_HEX},").repeat(n);
        let value = format!("t=1492774577,{wrong}v1={STRIPE_HEX}");
        request.with(&[("stripe-signature", &value)]).check()
    };
    assert_eq!(many(15), Ok(()));
    assert!(problem(many(16)).contains("has more than 16 signatures"));
}

#[test]
fn bytes_beyond_ascii_are_rejected() {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_bytes(b"sha256=\xff").unwrap();
    headers.insert("x-hub-signature-256", value);
    let checked = of(SignatureType::Github).check_headers(&headers, b"");
    assert!(problem(checked).contains("has other characters"));
}

#[test]
fn debug_output_has_no_key() {
    let request = of(SignatureType::Github);
    let source = SourceId::from_raw("s");
    let verifier = SignatureVerifier::new(ProjectId(1), &source, &request.settings);
    let printed = format!("{verifier:?} {:?}", request.settings);
    assert!(!printed.contains("Secret to"), "{printed}");
}

proptest! {
    #[test]
    fn any_flipped_bit_of_the_body_is_rejected(which in 0usize..8, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let request = &published()[which];
        let mut body = request.body.to_vec();
        body[at.index(request.body.len())] ^= 1 << bit;
        prop_assert!(request.check_body(&body).is_err());
    }

    #[test]
    fn a_longer_or_shorter_body_is_rejected(which in 0usize..8, more in prop::collection::vec(any::<u8>(), 1..9), cut in any::<prop::sample::Index>()) {
        let request = &published()[which];
        prop_assert!(request.check_body(&[request.body, &more].concat()).is_err());
        prop_assert!(request.check_body(&[&more, request.body].concat()).is_err());
        prop_assert!(request.check_body(&request.body[..cut.index(request.body.len())]).is_err());
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_rejected(which in 0usize..8, header in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0u8..7) {
        let request = &published()[which];
        let mut changed = request.clone();
        let header = header.index(request.headers.len());
        let mut value = request.headers[header].1.clone().into_bytes();
        let at = at.index(value.len());
        value[at] ^= 1 << bit;
        let text = String::from_utf8(value).unwrap();
        // Signatures of other versions and by other secrets, and white space, do not count.
        let given = &request.headers[header].1;
        let counts = match request.settings.r#type {
            SignatureType::Stripe => {
                let (from, to) = (given.find(STRIPE_HEX).unwrap(), given.find(",v0").unwrap());
                at < "t=1492774577".len() || at >= from - 3 && at < to
            }
            SignatureType::Standard if given.starts_with("v1a") => at >= "v1a,AAAA ".len(),
            // Digits of either case are the same signature.
            SignatureType::Hmac => at < "sha512=".len() || !text.eq_ignore_ascii_case(given),
            _ => true,
        };
        changed.headers[header].1 = text;
        prop_assume!(counts);
        prop_assert!(changed.check().is_err(), "{:?}", changed);
    }

    #[test]
    fn any_headers_are_read_without_a_panic(which in 0usize..8, values in prop::collection::vec("[ -~]{0,80}|(t=[0-9]{1,13}|v1[=,][0-9a-zA-Z+/=]{0,90}|[, ]){0,9}", 3)) {
        let mut request = published()[which].clone();
        for (header, value) in request.headers.iter_mut().zip(values) {
            header.1 = value;
        }
        prop_assert!(request.check().is_err());
    }
}
