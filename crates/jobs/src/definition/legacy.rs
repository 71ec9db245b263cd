//! Reads files of the older collection engine by their key names, so that its users migrate without edits.

use forebay_schema::nearest;
use forebay_schema::yaml::PlainScalars;
use serde_json::{Map, Value, json};

/// All keys of the older engine.
const KEYS: [&str; 13] = [
    "sourceApiBaseUrl",
    "sourceApiAuthToken",
    "sourceClientTimeout",
    "sourceApiRateLimit",
    "sourceApiRateLimitPeriodSecs",
    "processingApiBaseUrl",
    "processingClientTimeout",
    "processingWorkersCount",
    "storageApiBaseUrl",
    "storageClientTimeout",
    "storageWorkersCount",
    "defaultClientTimeout",
    "defaultWorkersCount",
];

/// Whether a document has keys of the older engine and none of a definition.
pub(super) fn is_legacy(document: &Value) -> bool {
    let Some(fields) = document.as_object() else {
        return false;
    };
    let has = |name: &str| fields.contains_key(name);
    KEYS.iter().any(|k| has(k)) && !has("source") && !has("destination")
}

/// Keeps URLs and tokens as written, even if YAML reads them as another type.
fn with_texts(document: &Value, plains: &PlainScalars) -> Value {
    let mut document = document.clone();
    let is_text = |key: &&&str| key.ends_with("Url") || key.ends_with("Token");
    for name in KEYS.iter().filter(is_text) {
        if let (Some(value), Some(plain)) = (document.get_mut(*name), plains.get(name))
            && !value.is_null()
        {
            *value = plain.text.as_str().into();
        }
    }
    document
}

/// Converts a document of the older engine to a definition.
pub(super) fn convert(document: &Value, plains: &PlainScalars) -> Result<Value, Vec<String>> {
    let document = &with_texts(document, plains);
    let empty = Map::new();
    let fields = document.as_object().unwrap_or(&empty);
    let mut violations: Vec<String> = Vec::new();
    for name in fields.keys().filter(|n| !KEYS.contains(&n.as_str())) {
        let hint = nearest(name, KEYS).map(|n| format!("; did you mean {n}?"));
        violations.push(format!(
            "{name} is not a known key{}",
            hint.unwrap_or_default()
        ));
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    for name in ["sourceApiBaseUrl", "storageApiBaseUrl"] {
        if text(name).is_none_or(str::is_empty) {
            violations.push(format!("{name} is missing"));
        }
    }
    let given = |name: &str| fields.get(name).filter(|v| !v.is_null()).cloned();
    let timeout = given("defaultClientTimeout").unwrap_or_else(|| json!("5s"));
    let workers = given("defaultWorkersCount").unwrap_or_else(|| json!(3));
    let timeout = |name: &str| given(name).unwrap_or_else(|| timeout.clone());
    let workers = |name: &str| given(name).unwrap_or_else(|| workers.clone());
    let stage = |name: &str| {
        json!({
            "url": text(&format!("{name}ApiBaseUrl")),
            "timeout": timeout(&format!("{name}ClientTimeout")),
            "workers": workers(&format!("{name}WorkersCount")),
        })
    };
    let mut source = json!({
        "type": "http_api",
        "baseUrl": text("sourceApiBaseUrl"),
        "timeout": timeout("sourceClientTimeout"),
    });
    if let Some(token) = given("sourceApiAuthToken") {
        source["auth"] = json!({ "token": token });
    }
    match (
        given("sourceApiRateLimit"),
        given("sourceApiRateLimitPeriodSecs"),
    ) {
        (Some(requests), period) => {
            let seconds = period.map_or(Some(60), |p| p.as_u64());
            match seconds {
                Some(seconds) => {
                    source["rateLimit"] =
                        json!({ "requests": requests, "period": format!("{seconds}s") });
                }
                None => violations.push(
                    "sourceApiRateLimitPeriodSecs has to be a whole number of seconds".to_owned(),
                ),
            }
        }
        (None, Some(_)) => {
            violations.push("sourceApiRateLimitPeriodSecs needs sourceApiRateLimit".to_owned());
        }
        (None, None) => {}
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let mut destination = stage("storage");
    destination["type"] = json!("http");
    let mut definition = json!({ "source": source, "destination": destination });
    if text("processingApiBaseUrl").is_some() {
        definition["processing"] = stage("processing");
    }
    Ok(definition)
}
