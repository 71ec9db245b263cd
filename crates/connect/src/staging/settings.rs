//! Settings of an S3 server in files, for staging and jobs.

use secrecy::SecretString;

use super::S3Staging;

/// S3 settings of a file; missing ones are read from the environment.
#[derive(Clone, Debug, Default)]
pub struct S3Settings {
    /// Fallback `AWS_REGION`, `AWS_DEFAULT_REGION`, `us-east-1`.
    pub region: Option<String>,
    /// Fallback `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// See [`S3Staging::anonymous`].
    pub anonymous: bool,
    /// Key, secret and session token are read from one source: all from the file, or all from the
    /// environment. A token of other keys would invalidate these.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<SecretString>,
    pub session_token: Option<SecretString>,
    /// Default: true if there is an endpoint.
    pub path_style: Option<bool>,
    /// See [`S3Staging::allow_http`].
    pub allow_http: bool,
}

/// Looks up an environment variable.
type VariableLookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl S3Settings {
    /// Contradictions that don't depend on the environment, with the setting names of a file.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let has_keys = self.access_key_id.is_some() || self.secret_access_key.is_some();
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            violations.push("accessKeyId and secretAccessKey have to be given together".to_owned());
        } else if self.session_token.is_some() && !has_keys {
            violations.push(
                "sessionToken belongs to accessKeyId and secretAccessKey, which are missing"
                    .to_owned(),
            );
        }
        if self.anonymous && (has_keys || self.session_token.is_some()) {
            violations
                .push("anonymous contradicts accessKeyId: requests are signed or not".to_owned());
        }
        if let Some(endpoint) = &self.endpoint {
            let mut config = S3Staging::new("bucket", "region").with_endpoint(endpoint);
            config.anonymous = true;
            config.allow_http = self.allow_http;
            config.path_style = self.path_style.unwrap_or(true);
            if let Some(problem) = super::s3::violation(&config) {
                violations.push(format!("endpoint is \"{endpoint}\": {problem}"));
            }
        }
        violations
    }

    /// The bucket, completed from the environment.
    pub fn resolve(self, bucket: &str, variable: &VariableLookup<'_>) -> S3Staging {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let region = self.region.or_else(|| variable("AWS_REGION"));
        let region = region.or_else(|| variable("AWS_DEFAULT_REGION"));
        let endpoint = self.endpoint.or_else(|| variable("AWS_ENDPOINT_URL_S3"));
        let mut s3 = S3Staging::new(bucket, region.unwrap_or_else(|| "us-east-1".to_owned()));
        s3.endpoint = endpoint.or_else(|| variable("AWS_ENDPOINT_URL"));
        s3.path_style = self.path_style.unwrap_or(s3.endpoint.is_some());
        s3.allow_http = self.allow_http;
        s3.anonymous = self.anonymous;
        if self.anonymous {
            return s3;
        }
        let is_own = self.access_key_id.is_some() || self.secret_access_key.is_some();
        if is_own || self.session_token.is_some() {
            s3.access_key_id = self.access_key_id;
            s3.secret_access_key = self.secret_access_key;
            s3.session_token = self.session_token;
        } else {
            s3.access_key_id = variable("AWS_ACCESS_KEY_ID");
            s3.secret_access_key = variable("AWS_SECRET_ACCESS_KEY").map(Into::into);
            s3.session_token = variable("AWS_SESSION_TOKEN").map(Into::into);
        }
        s3
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn keys(s3: &S3Staging) -> [Option<&str>; 3] {
        let secret = |s: &'_ Option<SecretString>| s.as_ref().map(|s| s.expose_secret().len());
        let own = |n: Option<usize>| n.map(|n| ["", "f", "en"].get(n).copied().unwrap_or("?"));
        [
            s3.access_key_id.as_deref(),
            own(secret(&s3.secret_access_key)),
            own(secret(&s3.session_token)),
        ]
    }

    #[test]
    fn keys_and_token_are_read_from_one_source() {
        let variable = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("env".to_owned()),
            "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN" => Some("en".to_owned()),
            "AWS_ENDPOINT_URL" => Some("https://env.example".to_owned()),
            "AWS_REGION" => Some(String::new()),
            "AWS_DEFAULT_REGION" => Some("eu-west-1".to_owned()),
            _ => None,
        };
        let environment = S3Settings::default().resolve("b", &variable);
        assert_eq!(keys(&environment), [Some("env"), Some("en"), Some("en")]);
        assert_eq!(environment.region, "eu-west-1");
        assert!(environment.path_style && environment.endpoint.is_some());
        let own = S3Settings {
            access_key_id: Some("file".to_owned()),
            secret_access_key: Some("f".into()),
            path_style: Some(false),
            ..S3Settings::default()
        };
        let file = own.clone().resolve("b", &variable);
        assert_eq!(keys(&file), [Some("file"), Some("f"), None]);
        assert!(!file.path_style);
        let with_token = S3Settings {
            session_token: Some("f".into()),
            ..own.clone()
        };
        assert_eq!(
            keys(&with_token.resolve("b", &variable)),
            [Some("file"), Some("f"), Some("f")]
        );
        let nobody = S3Settings {
            anonymous: true,
            ..S3Settings::default()
        };
        assert_eq!(keys(&nobody.resolve("b", &variable)), [None, None, None]);
        assert_eq!(own.violations(), Vec::<String>::new());
    }

    #[test]
    fn contradictions_are_reported() {
        let violation = |settings: S3Settings| settings.violations().join("\n");
        let base = S3Settings::default;
        let id = || Some("id".to_owned());
        let half = S3Settings {
            access_key_id: id(),
            ..base()
        };
        assert!(violation(half).contains("given together"));
        let token = S3Settings {
            session_token: Some("t".into()),
            ..base()
        };
        assert!(violation(token).contains("sessionToken belongs to"));
        let both = S3Settings {
            anonymous: true,
            access_key_id: id(),
            secret_access_key: Some("s".into()),
            ..base()
        };
        assert!(violation(both).contains("anonymous contradicts"));
        let at = |endpoint: &str, path_style| {
            violation(S3Settings {
                endpoint: Some(endpoint.to_owned()),
                path_style,
                ..base()
            })
        };
        assert!(at("http://minio:9000", None).contains("allowHttp"));
        assert!(at("minio:9000", None).contains("must begin with"));
        assert!(at("https://10.0.0.1:9000", Some(false)).contains("pathStyle"));
        assert_eq!(at("https://minio:9000", Some(false)), "");
        assert_eq!(at("http://127.0.0.1:9000", None), "");
    }
}
