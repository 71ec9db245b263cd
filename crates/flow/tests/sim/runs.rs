//! Many seeds, one seed, and seeds on broken parts.

use crate::world::{Plan, run};

#[test]
fn seeds() {
    let loud = std::env::var("FOREBAY_SIM_SEED").ok();
    if let Some(seed) = loud {
        let seed = seed.parse().unwrap();
        let done = run(Plan { seed, loud: true, ..Plan::default() });
        println!("{done:?}");
        return;
    }
    for seed in 0..100 {
        let done = run(Plan { seed, ..Plan::default() });
        println!("{seed} {done:?}");
    }
}
