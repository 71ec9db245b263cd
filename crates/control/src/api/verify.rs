//! Signatures that a source requires: from a request into the definition, and into views.

use forebay_api::source::{SourceVerifyRequest, SourceVerifyType, SourceVerifyView};
use forebay_model::signature::TOLERANCE_DEFAULT;
use forebay_model::{HumanDuration, SignatureHeader, SignatureSettings};

use super::error::ApiError;

/// Makes the settings of a request; `present` are those of the source.
pub(super) fn from_request(
    request: &SourceVerifyRequest,
    present: Option<&SignatureSettings>,
) -> Result<Option<SignatureSettings>, ApiError> {
    let header = header(request)?;
    let Some(of) = request.r#type.signature() else {
        let others = request.secrets.is_some() || request.tolerance.is_some() || header.is_some();
        return match others {
            true => Err(ApiError::bad_request(
                "verify.type is \"none\", no other field of verify is allowed with it",
            )
            .at("verify.type")),
            false => Ok(None),
        };
    };
    let kept = present.filter(|present| present.r#type == of);
    let kept = kept.map(|present| &present.secrets);
    let Some(secrets) = request.secrets.as_ref().or(kept) else {
        return Err(ApiError::bad_request(
            "verify.secrets is missing, allowed are 1 to 4 secrets; only a change of the same type may be without them",
        )
        .at("verify.secrets"));
    };
    let tolerance = request
        .tolerance
        .as_deref()
        .map(str::parse::<HumanDuration>);
    let tolerance = tolerance.transpose();
    let tolerance = tolerance.map_err(|e| {
        ApiError::bad_request(format!("verify.tolerance: {e}")).at("verify.tolerance")
    })?;
    let settings = SignatureSettings {
        r#type: of,
        secrets: secrets.clone(),
        tolerance,
        header,
    };
    // Each message begins with its field.
    let at_field = |message: String| {
        let field = message
            .split([' ', ','])
            .next()
            .unwrap_or_default()
            .to_owned();
        ApiError::bad_request(message).at(field)
    };
    let violations = settings.violations().into_iter().map(at_field).collect();
    match ApiError::combine(violations) {
        None => Ok(Some(settings)),
        Some(rejection) => Err(rejection),
    }
}

/// The header of a request; `None` if it has none of its fields.
fn header(request: &SourceVerifyRequest) -> Result<Option<SignatureHeader>, ApiError> {
    let has_parts =
        request.hash.is_some() || request.encoding.is_some() || request.prefix.is_some();
    let name = match &request.header {
        Some(name) => name.clone(),
        None if !has_parts => return Ok(None),
        None if request.r#type != SourceVerifyType::Hmac => String::new(),
        None => {
            return Err(ApiError::bad_request(
                "verify.header is missing, the type hmac needs the name of the header with the signature",
            )
            .at("verify.header"));
        }
    };
    Ok(Some(SignatureHeader {
        name,
        hash: request.hash.map(Into::into).unwrap_or_default(),
        encoding: request.encoding.map(Into::into).unwrap_or_default(),
        prefix: request.prefix.clone().unwrap_or_default(),
    }))
}

/// The settings without their secrets. `address_secret` is that of the source's URL; without it
/// fingerprints are omitted.
pub(super) fn view(settings: &SignatureSettings, address_secret: Option<&str>) -> SourceVerifyView {
    let prints = |address: &str| {
        let secrets = settings.secrets.iter();
        secrets.map(|secret| secret.fingerprint(address)).collect()
    };
    let tolerance = settings.tolerance.unwrap_or(TOLERANCE_DEFAULT);
    let header = settings.header.as_ref();
    SourceVerifyView {
        r#type: settings.r#type.into(),
        secret_fingerprints: address_secret.map(prints),
        tolerance: settings.r#type.has_time().then(|| tolerance.to_string()),
        header: header.map(|h| h.name.clone()),
        hash: header.map(|h| h.hash.into()),
        encoding: header.map(|h| h.encoding.into()),
        prefix: header.map(|h| h.prefix.clone()),
    }
}
