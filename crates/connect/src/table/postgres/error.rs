//! Conversion and classification of PostgreSQL's errors.

use std::error::Error as _;
use std::time::Duration;

use forebay_model::words::short;
use tokio_postgres::error::DbError;

use crate::table::TableError;

/// Converts an error of the library or the server; `action` as in "can't …".
pub(super) fn from_postgres(
    display_name: &str,
    action: &str,
    error: &tokio_postgres::Error,
) -> TableError {
    let Some(db_error) = error.as_db_error() else {
        let message = format!("{display_name}: can't {action}: {}", causes(error));
        return if is_certificate(error) {
            TableError::Terminal(message)
        } else {
            TableError::Retryable(message)
        };
    };
    let message = format!("{display_name}: can't {action}: {}", words(db_error));
    if is_retryable(db_error.code().code()) {
        TableError::Retryable(message)
    } else {
        TableError::Terminal(message)
    }
}

/// Timeout of a step on the client side.
pub(super) fn too_slow(display_name: &str, action: &str, limit: Duration) -> TableError {
    TableError::Retryable(format!(
        "{display_name}: can't {action}: no response within {} s",
        limit.as_secs()
    ))
}

/// Classifies by SQLSTATE: retryable errors are temporary, or fixed by a repair of the server that
/// changes neither the data nor the definitions.
fn is_retryable(code: &str) -> bool {
    match code {
        // Missing although `prepare` created it: dropped meanwhile, the retry creates it again.
        "42P01" | "42703" | "3F000" => true,
        // Read-only: a replica after a failover, until the address is switched.
        "25006" => true,
        // Concurrent creation of a schema, table or column: the retry finds it.
        "42P06" | "42P07" | "42701" => true,
        // Object not in the required state, lock not available, in use.
        "55000" | "55006" | "55P03" => true,
        _ => match code.get(..2) {
            // Wrong user or password, missing database, missing permission, rejected data or names,
            // constraints, limits, unsupported features.
            Some("0A" | "22" | "23" | "28" | "3D" | "42" | "54") => false,
            // Connections, transactions, resources, operators, the system, and unknown codes.
            _ => true,
        },
    }
}

fn words(db_error: &DbError) -> String {
    let mut text = db_error.message().to_owned();
    if let Some(detail) = db_error.detail() {
        text.push_str(": ");
        text.push_str(detail);
    }
    if let Some(hint) = db_error.hint() {
        text.push_str(" (");
        text.push_str(hint);
        text.push(')');
    }
    format!("{} [{}]", short(&text), db_error.code().code())
}

/// An untrusted certificate fails again.
fn is_certificate(error: &tokio_postgres::Error) -> bool {
    let mut next = error.source();
    while let Some(e) = next {
        let io = e.downcast_ref::<std::io::Error>();
        let inner = io.and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|e| e.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        next = e.source();
    }
    false
}

fn causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(e) = next {
        let cause = e.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_classified() {
        for code in [
            "08006", "53100", "57P01", "40P01", "40001", "42P01", "55P03", "XX000", "57014",
        ] {
            assert!(is_retryable(code), "{code}");
        }
        for code in [
            "28P01", "3D000", "42501", "22021", "23505", "54000", "42611", "0A000",
        ] {
            assert!(!is_retryable(code), "{code}");
        }
    }
}
