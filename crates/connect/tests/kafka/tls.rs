//! Encryption and authentication, against real listeners of a broker that require them.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay_buffer::{
    Buffer, BufferConfig, BufferEvent, BufferMode, CloseMode, Message, ProviderHealth, WriteError,
};
use forebay_connect::provider::kafka::{
    ClientIdentity, KafkaConfig, KafkaProvider, KafkaSecurity, KafkaTlsConfig, PemSource,
    SaslConfig, SaslMechanism,
};
use forebay_test_support::services::{self, KafkaTls};

use crate::broker::{LIMIT, make_topic, read_all};

const MUTUAL: u16 = 0;
const SASL: u16 = 1;
const EXPIRED: u16 = 2;
const ELSEWHERE: u16 = 3;

/// The listeners of the broker.
struct Broker {
    plain: String,
    tls: KafkaTls,
}

impl Broker {
    fn of(test: &str) -> Option<Self> {
        Some(Self {
            plain: services::kafka(test)?,
            tls: services::kafka_tls(test)?,
        })
    }

    fn pem(&self, name: &str) -> PemSource {
        PemSource::File(self.tls.dir.join(name))
    }

    fn tls(&self) -> KafkaTlsConfig {
        KafkaTlsConfig {
            ca: Some(self.pem("ca.crt")),
            ..KafkaTlsConfig::default()
        }
    }

    fn identity(&self) -> ClientIdentity {
        ClientIdentity {
            certificate: self.pem("client.crt"),
            key: self.pem("client.key"),
            key_password: Some("secret".into()),
        }
    }

    fn config(
        &self,
        listener: u16,
        tls: Option<KafkaTlsConfig>,
        sasl: Option<SaslConfig>,
    ) -> KafkaConfig {
        KafkaConfig {
            security: KafkaSecurity { tls, sasl },
            ..KafkaConfig::new(format!("127.0.0.1:{}", self.tls.port + listener))
        }
    }

    fn mutual(&self) -> KafkaConfig {
        let tls = KafkaTlsConfig {
            identity: Some(self.identity()),
            ..self.tls()
        };
        self.config(MUTUAL, Some(tls), None)
    }

    fn password(&self, mechanism: SaslMechanism, password: &str) -> KafkaConfig {
        let sasl = SaslConfig::Password {
            mechanism,
            user: "alice".to_owned(),
            password: password.into(),
        };
        self.config(SASL, Some(self.tls()), Some(sasl))
    }
}

/// An unsigned JWT that expires at this second since 1970: the test's broker accepts it.
fn token(dir: &std::path::Path, until: u64) -> SaslConfig {
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    let token = format!(
        "{}.{}.\n",
        part(r#"{"alg":"none"}"#.to_owned()),
        part(format!(
            r#"{{"sub":"alice","iat":1700000000,"exp":{until}}}"#
        ))
    );
    let file = dir.join("token");
    std::fs::write(&file, token).unwrap();
    SaslConfig::Token { file }
}

const FAR: u64 = 4_000_000_000;

fn arrives(broker: &Broker, name: &str, config: KafkaConfig) {
    let topic = make_topic(&broker.plain, name, 1);
    let dir = tempfile::tempdir().unwrap();
    let provider = KafkaProvider::new(config).unwrap();
    let buffer = Buffer::open(BufferConfig::new(dir.path()), provider).unwrap();
    let messages: Vec<_> = (0..500).map(|i| Message::new(i.to_string())).collect();
    buffer.write_batch_blocking(&topic, &messages).unwrap();
    let flushed = buffer.flush_blocking(Duration::from_secs(30));
    assert!(flushed.is_ok(), "{name}: {:?}", buffer.stats().partitions);
    buffer.close(CloseMode::Drain(LIMIT)).unwrap();
    let read = read_all(&broker.plain, &topic, 1).remove(0);
    let numbers: Vec<u32> = read.iter().map(|m| m.text().parse().unwrap()).collect();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "{name}");
    eprintln!("{name}: arrived");
}

#[test]
fn messages_arrive_by_certificate_password_and_token() {
    let Some(broker) = Broker::of("messages_arrive_by_certificate_password_and_token") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for transactions in [false, true] {
        let ways = [
            ("tls-mutual", broker.mutual()),
            (
                "tls-plain",
                broker.password(SaslMechanism::Plain, "alice-secret"),
            ),
            (
                "tls-scram-256",
                broker.password(SaslMechanism::ScramSha256, "alice-secret"),
            ),
            (
                "tls-scram-512",
                broker.password(SaslMechanism::ScramSha512, "alice-secret"),
            ),
            (
                "tls-token",
                broker.config(SASL, Some(broker.tls()), Some(token(dir.path(), FAR))),
            ),
        ];
        for (name, config) in ways {
            let config = KafkaConfig {
                transactions,
                ..config
            };
            arrives(&broker, &format!("{name}-{transactions}"), config);
        }
    }
}

/// The error that a writer receives, in the mode that reports errors immediately.
fn rejection(config: KafkaConfig) -> String {
    let dir = tempfile::tempdir().unwrap();
    let provider = KafkaProvider::new(config).unwrap();
    let settings = BufferConfig {
        mode: BufferMode::Error,
        direct_timeout: Duration::from_secs(2),
        ..BufferConfig::new(dir.path())
    };
    let buffer = Buffer::open(settings, provider).unwrap();
    match buffer.write_blocking("rejected", Message::new("1")) {
        Err(WriteError::Provider { error, .. }) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rejection_reports_its_cause() {
    let Some(broker) = Broker::of("a_rejection_reports_its_cause") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mutual = |listener| KafkaConfig {
        brokers: format!("127.0.0.1:{}", broker.tls.port + listener),
        ..broker.mutual()
    };
    let stranger = KafkaTlsConfig {
        ca: Some(broker.pem("other.crt")),
        identity: Some(broker.identity()),
        ..KafkaTlsConfig::default()
    };
    let to_plain = KafkaConfig {
        brokers: broker.plain.clone(),
        ..broker.mutual()
    };
    let wrong = "not-the-password";
    let cases = [
        (
            "password, plain",
            broker.password(SaslMechanism::Plain, wrong),
            "uthentication failed",
        ),
        (
            "password, scram",
            broker.password(SaslMechanism::ScramSha512, wrong),
            "invalid credentials",
        ),
        (
            "token",
            broker.config(
                SASL,
                Some(broker.tls()),
                Some(token(dir.path(), 1_700_000_001)),
            ),
            "token",
        ),
        (
            "unknown authority",
            broker.config(MUTUAL, Some(stranger), None),
            "signed by an authority",
        ),
        ("expired", mutual(EXPIRED), "has expired"),
        ("another host", mutual(ELSEWHERE), "does not name this host"),
        (
            "no certificate",
            broker.config(MUTUAL, Some(broker.tls()), None),
            "certificate",
        ),
        ("port without TLS", to_plain, "may not speak TLS"),
    ];
    for (name, config, expected) in cases {
        let error = rejection(config);
        eprintln!("{name}: {error}");
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!error.contains(wrong), "{name}: {error}");
    }
}

/// In the other direction the client can only guess; the error is reported as soon as a stall is.
#[test]
fn a_tls_port_is_reported_to_a_client_without_tls() {
    let Some(broker) = Broker::of("a_tls_port_is_reported_to_a_client_without_tls") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = BufferConfig {
        stall: Duration::from_millis(500),
        ..BufferConfig::new(dir.path())
    };
    let provider = KafkaProvider::new(broker.config(MUTUAL, None, None)).unwrap();
    let buffer = Buffer::open(settings, provider).unwrap();
    let events = buffer.events();
    buffer.write_blocking("t", Message::new("1")).unwrap();
    let error = || match &buffer.stats().partitions[0].provider {
        ProviderHealth::Down { error, .. } => error.clone(),
        _ => String::new(),
    };
    let deadline = Instant::now() + LIMIT;
    while !error().contains("may require TLS") {
        assert!(Instant::now() < deadline, "{}", error());
        drop(events.wait(Duration::from_millis(20)));
    }
}

/// A wrong password loses nothing: the message is on disk, the state reports the cause, and the
/// right password delivers it.
#[test]
fn messages_waiting_for_the_right_password_are_delivered() {
    let Some(broker) = Broker::of("messages_waiting_for_the_right_password_are_delivered") else {
        return;
    };
    let topic = make_topic(&broker.plain, "tls-waits", 1);
    let dir = tempfile::tempdir().unwrap();
    let open = |password| {
        let config = broker.password(SaslMechanism::ScramSha256, password);
        let provider = KafkaProvider::new(config).unwrap();
        Buffer::open(BufferConfig::new(dir.path()), provider).unwrap()
    };
    let buffer = open("not-the-password");
    let events = buffer.events();
    buffer.write_blocking(&topic, Message::new("1")).unwrap();
    while !matches!(
        events.wait(LIMIT).unwrap(),
        BufferEvent::ProviderDown { .. }
    ) {}
    let state = buffer.stats().partitions[0].provider.clone();
    assert!(
        matches!(&state, ProviderHealth::Down { error, .. } if error.contains("invalid credentials")),
        "{state:?}"
    );
    buffer.close(CloseMode::Detach).unwrap();
    open("alice-secret").close(CloseMode::Drain(LIMIT)).unwrap();
    assert_eq!(read_all(&broker.plain, &topic, 1)[0][0].text(), "1");
}

#[test]
fn invalid_settings_are_rejected_without_showing_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("not.pem");
    std::fs::write(&file, "hush").unwrap();
    let with = |tls: KafkaTlsConfig| KafkaConfig {
        security: KafkaSecurity {
            tls: Some(tls),
            sasl: Some(SaslConfig::Password {
                mechanism: SaslMechanism::Plain,
                user: "alice".to_owned(),
                password: "hush".into(),
            }),
        },
        ..KafkaConfig::new("127.0.0.1:1")
    };
    let ca = |pem| {
        with(KafkaTlsConfig {
            ca: Some(pem),
            ..KafkaTlsConfig::default()
        })
    };
    let mut unknown = with(KafkaTlsConfig::default());
    unknown
        .settings
        .insert("sasl.pasword".to_owned(), "hush".to_owned());
    assert!(!format!("{unknown:?}").contains("hush"), "{unknown:?}");
    let garbage = "-----BEGIN CERTIFICATE-----\nhush\n-----END CERTIFICATE-----\n";
    let mut empty = with(KafkaTlsConfig::default());
    if let Some(SaslConfig::Password { password, .. }) = &mut empty.security.sasl {
        *password = "".into();
    }
    for (config, expected) in [
        (
            ca(PemSource::File(dir.path().join("missing.pem"))),
            "ssl.ca.pem: ",
        ),
        (ca(PemSource::File(file)), "not PEM"),
        (ca(PemSource::Text(garbage.into())), "ssl.ca.pem"),
        (unknown, "sasl.pasword: "),
        (empty, "sasl.password: must not be empty"),
    ] {
        let error = KafkaProvider::new(config).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}
