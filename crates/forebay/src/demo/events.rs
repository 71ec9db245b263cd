//! Events of a small shop, in several shapes.

use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

const USERS: [(&str, &str); 6] = [
    ("ada", "GB"),
    ("grace", "US"),
    ("linus", "FI"),
    ("margaret", "US"),
    ("radia", "US"),
    ("žofie", "CZ"),
];
const PAGES: [&str; 4] = ["/", "/bikes", "/bikes/42", "/cart"];
const GOODS: [(&str, f64); 4] = [
    ("bell", 7.5),
    ("bike", 499.0),
    ("lamp", 24.9),
    ("tyre", 31.25),
];

pub(crate) fn event(random: &mut impl Rng) -> Value {
    let (user, country) = USERS.choose(random).copied().unwrap_or(("ada", "GB"));
    let user = json!({ "id": user, "address": { "country": country } });
    match random.random_range(0..10) {
        0..5 => json!({
            "kind": "view",
            "user": user,
            "page": PAGES.choose(random),
            "ms": random.random_range(3..900),
        }),
        5..7 => {
            json!({ "kind": "search", "user": user, "words": ["red", "bike"], "hits": random.random_range(0..50) })
        }
        7..9 => {
            json!({ "kind": "order", "user": user, "items": items(random), "note": "\"quick\", please" })
        }
        // From a device: no user.
        _ => json!({
            "kind": "sensor",
            "device": format!("door-{}", random.random_range(1..9)),
            "celsius": f64::from(random.random_range(150..260)) / 10.0,
        }),
    }
}

fn items(random: &mut impl Rng) -> Value {
    let count = random.random_range(1..4);
    let item = |random: &mut _| {
        let (name, price) = GOODS.choose(random).copied().unwrap_or(("bell", 7.5));
        json!({ "name": name, "price": price, "count": Rng::random_range(random, 1..3) })
    };
    Value::Array((0..count).map(|_| item(random)).collect())
}
